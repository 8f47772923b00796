// Owned memory and the arena's promise: nothing is allocated after the first step.
#include "kernels/buffer.h"
#include "kernels/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support/reference.h"

namespace longscan {
namespace {

bool is_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % 64 == 0;
}

TEST(Buffer, IsZeroedAndAligned) {
  for (const std::int64_t bytes : {1, 63, 64, 65, 1000001}) {
    const Buffer buffer(bytes);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_TRUE(is_aligned(buffer.data()));
    EXPECT_TRUE(std::all_of(buffer.data(), buffer.data() + bytes,
                            [](std::byte byte) { return byte == std::byte{0}; }));
  }
}

TEST(Buffer, MayBeEmptyButNotNegative) {
  EXPECT_EQ(Buffer(0).data(), nullptr);
  test::expect_error(ErrorKind::internal, "Buffer.bytes", [] { Buffer buffer(-1); });
}

TEST(Buffer, MovesItsMemory) {
  Buffer first(100);
  const std::byte* data = first.data();
  const Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.bytes(), 100);
}

std::vector<std::byte*> take_a_step(Arena& arena) {
  std::vector<std::byte*> places;
  for (const std::int64_t rows : {1, 33, 597, 4096}) {
    const Tensor tensor = arena.take(DType::f32, {rows, 129});
    std::fill_n(tensor.as<float>(), tensor.size(), static_cast<float>(rows));
    places.push_back(tensor.as<std::byte>());
  }
  return places;
}

TEST(Arena, TensorsAreAlignedAndDoNotOverlap) {
  Device device = Device::cpu(1);
  Arena arena(device);
  std::vector<Tensor> tensors;
  for (int i = 0; i < 200; ++i) {
    tensors.push_back(arena.take(DType::i32, {i, 100}));
    std::fill_n(tensors.back().as<std::int32_t>(), tensors.back().size(), i);
  }
  for (int i = 0; i < 200; ++i) {
    const auto* numbers = tensors[static_cast<std::size_t>(i)].as<std::int32_t>();
    EXPECT_TRUE(is_aligned(numbers));
    EXPECT_EQ(std::count(numbers, numbers + 100 * i, i), 100 * i);
  }
}

TEST(Arena, AllocatesNothingAfterTheFirstStep) {
  Device device = Device::cpu(1);
  Arena arena(device);
  take_a_step(arena);
  arena.rewind();
  const std::vector<std::byte*> places = take_a_step(arena);
  const std::int64_t bytes = arena.bytes();
  for (int step = 0; step < 3; ++step) {
    arena.rewind();
    EXPECT_EQ(take_a_step(arena), places);
    EXPECT_EQ(arena.bytes(), bytes);
  }
}

TEST(Arena, RewindingToAMarkReusesWhatCameAfterAndKeepsWhatCameBefore) {
  Device device = Device::cpu(1);
  Arena arena(device);
  const Tensor kept = arena.take(DType::f64, {1000});
  std::fill_n(kept.as<double>(), 1000, 7.0);
  const Arena::Mark mark = arena.mark();
  const Tensor first = arena.take(DType::f64, {1000});
  arena.take(DType::f64, {1 << 20});
  arena.rewind_to(mark);
  const Tensor again = arena.take(DType::f64, {1000});
  EXPECT_EQ(again.data, first.data);
  std::fill_n(again.as<double>(), 1000, 8.0);
  EXPECT_EQ(std::count(kept.as<double>(), kept.as<double>() + 1000, 7.0), 1000);
}

TEST(Arena, HoldsNoMoreThanTheMostThatWasInUse) {
  // By turns many tensors and fewer larger ones, as the branches of a layer take them.
  Device device = Device::cpu(1);
  Arena arena(device);
  const auto take_bytes = [&](std::int64_t count, std::int64_t bytes) {
    for (std::int64_t i = 0; i < count; ++i) arena.take(DType::u8, {bytes});
  };
  constexpr std::int64_t kBytes = std::int64_t{1} << 22;
  for (int step = 0; step < 3; ++step) {
    take_bytes(1, kBytes);
    const Arena::Mark mark = arena.mark();
    for (int layer = 0; layer < 4; ++layer) {
      take_bytes(6, kBytes);
      arena.rewind_to(mark);
      take_bytes(1, kBytes);
      take_bytes(3, 2 * kBytes);
      EXPECT_LE(arena.bytes(), 8 * kBytes);
      arena.rewind_to(mark);
    }
    arena.rewind();
    EXPECT_EQ(arena.bytes(), 8 * kBytes);
  }
}

TEST(Arena, GivesOutEmptyTensors) {
  Device device = Device::cpu(1);
  Arena arena(device);
  const Tensor empty = arena.take(DType::f32, {0, 64});
  EXPECT_EQ(empty.size(), 0);
  EXPECT_TRUE(empty.present());
}

}  // namespace
}  // namespace longscan

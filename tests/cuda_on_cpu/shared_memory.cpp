// Pieces of shared memory, filled anew for every block.
#include "tests/cuda_on_cpu/shared_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "tests/cuda_on_cpu/configuration.h"
#include "tests/cuda_on_cpu/executor.h"
#include "tests/cuda_on_cpu/sanitizers.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr std::size_t kPartAlignment = 128;
constexpr int kNotANumber = 0xff;  // every byte so makes a NaN of each type
#if defined(LONGSCAN_ADDRESS_SANITIZER)
constexpr std::size_t kGuardBytes = 0;  // the sanitizer has its own
#else
constexpr std::size_t kGuardBytes = 128;
#endif

}  // namespace

void SharedMemory::Free::operator()(std::byte* memory) const {
  std::free(memory);
}

SharedMemory::Piece SharedMemory::make_piece(std::size_t bytes, std::size_t alignment) {
  // Off the next larger alignment: a float4 read from an array of floats would be luck.
  const std::size_t shift = alignment < kPartAlignment ? alignment : 0;
  Piece piece{.bytes = bytes};
  void* memory = nullptr;
  const std::size_t room = kGuardBytes + shift + bytes + kGuardBytes;
  if (posix_memalign(&memory, std::max(alignment, kPartAlignment), room) != 0) {
    throw std::bad_alloc();
  }
  piece.memory.reset(static_cast<std::byte*>(memory));
  piece.data = piece.memory.get() + kGuardBytes + shift;
  piece.guard_before = kGuardBytes + shift;
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  constexpr std::size_t kGranule = 8;  // the sanitizer closes nothing smaller at the front
  piece.guard_before = shift % kGranule;
  __asan_poison_memory_region(memory, shift - piece.guard_before);
#endif
  return piece;
}

void SharedMemory::fill(Piece& piece) {
  std::memset(piece.data - piece.guard_before, kNotANumber,
              piece.guard_before + piece.bytes + kGuardBytes);
  piece.in_use = true;
}

void SharedMemory::check_guards(const Piece& piece) {
  const auto touched = [](const std::byte* guard, std::size_t bytes) {
    return std::any_of(guard, guard + bytes,
                       [](std::byte value) { return value != std::byte{kNotANumber}; });
  };
  if (piece.in_use && (touched(piece.data - piece.guard_before, piece.guard_before) ||
                       touched(piece.data + piece.bytes, kGuardBytes))) {
    fail(fmt::format("shared memory beside {} ({} bytes) was written to", piece.name, piece.bytes));
  }
}

void SharedMemory::begin_launch(std::size_t bytes) {
  parts_.clear();
  dynamic_ = {};
  dynamic_bytes_ = bytes;
}

void SharedMemory::begin_block() {
  for (Piece& piece : arrays_) piece.in_use = false;
  for (Piece& piece : parts_) piece.in_use = false;
  dynamic_.in_use = false;
  array_bytes_ = 0;
}

void SharedMemory::end_block() const {
  for (const Piece& piece : arrays_) check_guards(piece);
  for (const Piece& piece : parts_) check_guards(piece);
  check_guards(dynamic_);
}

void* SharedMemory::array(const void* key, std::size_t bytes, std::size_t alignment,
                          const char* name) {
  auto piece = std::find_if(arrays_.begin(), arrays_.end(),
                            [&](const Piece& known) { return known.key == key; });
  if (piece != arrays_.end() && piece->in_use) return piece->data;
  array_bytes_ += bytes;
  if (array_bytes_ > kStaticLimit ||
      array_bytes_ + dynamic_bytes_ > configuration().block_shared_bytes) {
    fail(fmt::format("{} bytes in shared arrays and {} dynamic bytes are too many", array_bytes_,
                     dynamic_bytes_));
  }
  if (piece == arrays_.end()) {
    Piece made = make_piece(bytes, alignment);
    made.key = key;
    made.name = name;
    piece = arrays_.insert(arrays_.end(), std::move(made));
  }
  fill(*piece);
  return piece->data;
}

void* SharedMemory::dynamic() {
  if (!parts_.empty())
    fail("dynamic_shared and SharedArena in one kernel: here they do not overlap");
  if (dynamic_.data == nullptr) {
    dynamic_ = make_piece(dynamic_bytes_, kPartAlignment);
    dynamic_.name = "dynamic_shared";
  }
  if (!dynamic_.in_use) fill(dynamic_);
  return dynamic_.data;
}

void* SharedMemory::part(std::size_t offset, std::size_t bytes) {
  if (bytes == 0) return nullptr;  // the next part begins here
  if (offset + bytes > dynamic_bytes_) {
    fail(fmt::format("bytes {} to {} taken of {} of dynamic shared memory", offset, offset + bytes,
                     dynamic_bytes_));
  }
  if (dynamic_.data != nullptr) {
    fail("dynamic_shared and SharedArena in one kernel: here they do not overlap");
  }
  auto piece = std::find_if(parts_.begin(), parts_.end(),
                            [&](const Piece& known) { return known.offset == offset; });
  if (piece == parts_.end()) {
    Piece made = make_piece(bytes, kPartAlignment);
    made.offset = offset;
    made.name = "a part of SharedArena";
    piece = parts_.insert(parts_.end(), std::move(made));
  }
  if (piece->bytes != bytes) {
    fail(fmt::format(
        "the part at byte {} of dynamic shared memory is taken with {} and with {} bytes", offset,
        piece->bytes, bytes));
  }
  if (!piece->in_use) fill(*piece);
  return piece->data;
}

bool SharedMemory::holds(const void* address) const {
  const auto* place = static_cast<const std::byte*>(address);
  const auto inside = [&](const Piece& piece) {
    return place >= piece.data && place < piece.data + piece.bytes;
  };
  return inside(dynamic_) || std::any_of(arrays_.begin(), arrays_.end(), inside) ||
         std::any_of(parts_.begin(), parts_.end(), inside);
}

}  // namespace longscan::cuda_on_cpu

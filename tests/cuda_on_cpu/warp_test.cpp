// What lanes do together against loops over the lanes.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr int kThreads = 64;

std::vector<int> inputs() {
  std::vector<int> values(kThreads);
  for (int i = 0; i < kThreads; ++i) values[i] = i * i * 7 % 101 - 50;
  return values;
}

// Runs a kernel (out, in) with one entry a thread, in all orders, against expected(in, thread).
template <class Kernel, class Expected>
void expect_each(Kernel kernel, Expected expected, int threads = kThreads) {
  const std::vector<int> values = inputs();
  const DeviceArray<int> in(values);
  in_all_orders([&] {
    DeviceArray<int> out(std::vector<int>(kThreads, 0));
    launch(kernel, 1, threads, 0, nullptr, out.get(), in.get());
    const std::vector<int> found = out.values();
    for (int i = 0; i < threads; ++i) EXPECT_EQ(found[i], expected(values, i)) << "thread " << i;
  });
}

__global__ void from_lane(int* out, const int* in) {
  out[threadIdx.x] = __shfl_sync(~0u, in[threadIdx.x], static_cast<int>(threadIdx.x) * 5);
}
__global__ void from_lane_of_eight(int* out, const int* in) {
  out[threadIdx.x] = __shfl_sync(~0u, in[threadIdx.x], 2, 8);
}
__global__ void across(int* out, const int* in) {
  out[threadIdx.x] = __shfl_xor_sync(~0u, in[threadIdx.x], 19);
}
__global__ void across_eight(int* out, const int* in) {
  out[threadIdx.x] = __shfl_xor_sync(~0u, in[threadIdx.x], 12, 8);
}
__global__ void up(int* out, const int* in) {
  out[threadIdx.x] = __shfl_up_sync(~0u, in[threadIdx.x], 3);
}
__global__ void down_in_sixteen(int* out, const int* in) {
  out[threadIdx.x] = __shfl_down_sync(~0u, in[threadIdx.x], 5, 16);
}

TEST(Warp, ShufflesMoveValues) {
  using Values = std::vector<int>;
  expect_each(from_lane, [](const Values& in, int i) { return in[i / 32 * 32 + i * 5 % 32]; });
  expect_each(from_lane_of_eight, [](const Values& in, int i) { return in[i / 8 * 8 + 2]; });
  expect_each(across, [](const Values& in, int i) { return in[i ^ 19]; });
  // Beyond the group of eight a lane keeps its own; towards lower lanes it may leave the group.
  expect_each(across_eight,
              [](const Values& in, int i) { return (i & 8) != 0 ? in[i ^ 12] : in[i]; });
  expect_each(up, [](const Values& in, int i) { return i % 32 >= 3 ? in[i - 3] : in[i]; });
  expect_each(down_in_sixteen,
              [](const Values& in, int i) { return i % 16 + 5 < 16 ? in[i + 5] : in[i]; });
}

__global__ void shuffle_halves(int* out, const int* in) {
  const std::uint32_t mask = threadIdx.x % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
  out[threadIdx.x] = __shfl_xor_sync(mask, in[threadIdx.x], 1);
}
__global__ void shuffle_wide(int* out, const int* in) {
  const double wide = in[threadIdx.x] + 0.5;
  out[threadIdx.x] = static_cast<int>(2 * __shfl_down_sync(~0u, wide, 1));
}

TEST(Warp, ShufflesWorkForPartsOfAWarpAndForEightBytes) {
  expect_each(shuffle_halves, [](const std::vector<int>& in, int i) { return in[i ^ 1]; });
  expect_each(shuffle_wide, [](const std::vector<int>& in, int i) {
    return 2 * in[i % 32 == 31 ? i : i + 1] + 1;
  });
}

__global__ void shuffle_in_short_warp(int* out, const int* in) {
  out[threadIdx.x] = __shfl_xor_sync(~0u, in[threadIdx.x], 1);
}

TEST(Warp, TheLastWarpMayBeShort) {
  expect_each(
      shuffle_in_short_warp, [](const std::vector<int>& in, int i) { return in[i ^ 1]; }, 38);
}

__global__ void ballot_odd(int* out, const int* in) {
  out[threadIdx.x] = static_cast<int>(__ballot_sync(~0u, in[threadIdx.x] & 1));
}
__global__ void any_and_all(int* out, const int* in) {
  const bool first = threadIdx.x < 32;
  const int value = in[threadIdx.x];
  out[threadIdx.x] = 8 * __any_sync(~0u, first && value == 6) + 4 * __any_sync(~0u, value > 1000) +
                     2 * __all_sync(~0u, value > -51) + __all_sync(~0u, value != 6 || !first);
}
__global__ void match_sign(int* out, const int* in) {
  out[threadIdx.x] = static_cast<int>(__match_any_sync(~0u, in[threadIdx.x] < 0 ? 1 : 0));
}

TEST(Warp, VotesCountTheLanes) {
  using Values = std::vector<int>;
  const auto bits = [](const Values& in, int i, auto condition) {
    unsigned result = 0;
    for (int lane = 0; lane < 32; ++lane) {
      result |= static_cast<unsigned>(condition(in[i / 32 * 32 + lane])) << lane;
    }
    return static_cast<int>(result);
  };
  expect_each(ballot_odd, [&](const Values& in, int i) {
    return bits(in, i, [](int value) { return (value & 1) != 0; });
  });
  expect_each(match_sign, [&](const Values& in, int i) {
    return bits(in, i, [&](int value) { return (value < 0) == (in[i] < 0); });
  });
  const Values in = inputs();
  const bool six = std::find(in.begin(), in.begin() + 32, 6) != in.begin() + 32;
  expect_each(any_and_all,
              [&](const Values&, int i) { return i < 32 ? 8 * six + 2 + !six : 2 + 1; });
}

__global__ void reduce_add(int* out, const int* in) {
  out[threadIdx.x] = __reduce_add_sync(~0u, in[threadIdx.x]);
}
__global__ void reduce_min(int* out, const int* in) {
  out[threadIdx.x] = __reduce_min_sync(~0u, in[threadIdx.x]);
}
__global__ void reduce_max_unsigned(int* out, const int* in) {
  out[threadIdx.x] =
      static_cast<int>(__reduce_max_sync(~0u, static_cast<unsigned>(in[threadIdx.x])));
}
__global__ void reduce_xor(int* out, const int* in) {
  out[threadIdx.x] = __reduce_xor_sync(~0u, in[threadIdx.x]);
}

TEST(Warp, ReductionsAreLoops) {
  using Values = std::vector<int>;
  const auto fold = [](const Values& in, int i, auto operation) {
    auto result = in[i / 32 * 32];
    for (int lane = 1; lane < 32; ++lane) result = operation(result, in[i / 32 * 32 + lane]);
    return result;
  };
  expect_each(reduce_add, [&](const Values& in, int i) { return fold(in, i, std::plus<>()); });
  expect_each(reduce_min, [&](const Values& in, int i) {
    return fold(in, i, [](int a, int b) { return std::min(a, b); });
  });
  expect_each(reduce_max_unsigned, [&](const Values& in, int i) {
    return fold(in, i, [](int a, int b) {
      return static_cast<int>(std::max(static_cast<unsigned>(a), static_cast<unsigned>(b)));
    });
  });
  expect_each(reduce_xor, [&](const Values& in, int i) { return fold(in, i, std::bit_xor<>()); });
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

// Missing barriers are found, and barriers that are there are honoured. This file is compiled for
// the race checker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/tiled_product.h"

namespace longscan::cuda_on_cpu {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// What the launch of a kernel with one array reports, or nothing.
template <class Kernel>
std::string races_of(Kernel kernel, int blocks = 1) {
  DeviceArray<float> out(std::vector<float>(64, 0.0f));
  try {
    launch(kernel, blocks, 64, 0, nullptr, out.get());
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

template <bool kBarrier>
__global__ void read_the_next(float* out) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = 1.0f;
  if (kBarrier) __syncthreads();
  out[threadIdx.x] = tile[(threadIdx.x + 1) % 64];
}

TEST(RaceChecker, FindsAReadThatNoBarrierSeparatesFromTheWrite) {
  EXPECT_THAT(races_of(read_the_next<false>),
              AllOf(HasSubstr("race on shared memory"), HasSubstr("race_checker_test.cpp:")));
  EXPECT_EQ(races_of(read_the_next<true>), "");
}

template <bool kBarrier>
__global__ void write_again(float* out) {
  SHARED(float, tile, [64]);
  float sum = 0.0f;
  for (int i = 0; i < 3; ++i) {
    tile[threadIdx.x] = static_cast<float>(i);
    __syncthreads();
    sum += tile[63 - threadIdx.x];
    if (kBarrier) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

TEST(RaceChecker, FindsAWriteThatNoBarrierSeparatesFromTheReads) {
  EXPECT_THAT(races_of(write_again<false>), HasSubstr("race on shared memory"));
  EXPECT_EQ(races_of(write_again<true>), "");
}

template <bool kBarrier>
__global__ void exchange_in_warp(float* out) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = 1.0f;
  if (kBarrier) __syncwarp();
  out[threadIdx.x] = tile[threadIdx.x ^ 1];
}

TEST(RaceChecker, FindsLanesThatExchangeWithoutSyncwarp) {
  EXPECT_THAT(races_of(exchange_in_warp<false>), HasSubstr("race on shared memory"));
  EXPECT_EQ(races_of(exchange_in_warp<true>), "");
}

__global__ void shuffle_is_no_fence(float* out) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
  float sum = __shfl_xor_sync(~0u, 1.0f, 2);
  out[threadIdx.x] = sum + tile[threadIdx.x ^ 1];
}

TEST(RaceChecker, DoesNotTakeAShuffleForAFence) {
  EXPECT_THAT(races_of(shuffle_is_no_fence), HasSubstr("race on shared memory"));
}

__global__ void syncwarp_across_warps(float* out) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = 1.0f;
  __syncwarp();
  out[threadIdx.x] = tile[63 - threadIdx.x];
}

TEST(RaceChecker, KnowsThatSyncwarpOrdersOneWarpOnly) {
  EXPECT_THAT(races_of(syncwarp_across_warps), HasSubstr("race on shared memory"));
}

__global__ void add_to_the_same(float* out) {
  out[threadIdx.x] += 1.0f;
}
__global__ void add_atomically(float* out) {
  atomicAdd(out, 1.0f);
}

TEST(RaceChecker, FindsBlocksThatWriteToTheSamePlaceUnlessAtomically) {
  EXPECT_EQ(races_of(add_to_the_same, 1), "");
  EXPECT_THAT(races_of(add_to_the_same, 2),
              AllOf(HasSubstr("race on global memory"), HasSubstr("another block's thread")));
  EXPECT_EQ(races_of(add_atomically, 5), "");
}

__global__ void own_arrays(float* out) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = static_cast<float>(i);
  for (int i = 0; i < 3; ++i) {
    values[(threadIdx.x + i) % 64] += 1.0f;
    __syncthreads();
  }
  out[threadIdx.x] = values[threadIdx.x];
}

TEST(RaceChecker, IsSilentAboutArraysOfOneThread) {
  EXPECT_EQ(races_of(own_arrays), "");
}

template <bool kWait>
__global__ void copy_asynchronously(float* out) {
  SHARED(float, tile, [64]);
  __pipeline_memcpy_async(&tile[threadIdx.x], out + threadIdx.x, 4);
  __pipeline_commit();
  if (kWait) __pipeline_wait_prior(0);
  __syncthreads();
  const float value = tile[63 - threadIdx.x];
  __pipeline_wait_prior(0);
  out[threadIdx.x] = value;
}

TEST(RaceChecker, FindsReadsOfCopiesThatNobodyWaitedFor) {
  EXPECT_THAT(races_of(copy_asynchronously<false>), HasSubstr("race on shared memory"));
  EXPECT_EQ(races_of(copy_asynchronously<true>), "");
}

template <LeftOut kLeftOut>
std::string races_of_product() {
  const std::vector<__nv_bfloat16> ones(64 * 64, __float2bfloat16(1.0f));
  const DeviceArray<__nv_bfloat16> a(ones), b(ones);
  DeviceArray<float> out(64 * 32);
  try {
    launch_tiled_product<kLeftOut>({out.get(), a.get(), b.get(), 64, 32, 64});
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

TEST(RaceChecker, FindsEachPieceThatIsLeftOutOfATiledProduct) {
  EXPECT_EQ(races_of_product<LeftOut::nothing>(), "");
  EXPECT_THAT(races_of_product<LeftOut::wait_for_copies>(), HasSubstr("race on shared memory"));
  EXPECT_THAT(races_of_product<LeftOut::barrier_after_arrival>(),
              HasSubstr("race on shared memory"));
  EXPECT_THAT(races_of_product<LeftOut::barrier_before_next_copies>(),
              HasSubstr("race on shared memory"));
}

TEST(RaceChecker, ForgetsBetweenLaunches) {
  DeviceArray<float> out(std::vector<float>(64, 0.0f));
  for (int i = 0; i < 2; ++i)
    EXPECT_NO_THROW(launch(add_to_the_same, 1, 64, 0, nullptr, out.get()));
  EXPECT_EQ(out.values(), std::vector<float>(64, 2.0f));
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

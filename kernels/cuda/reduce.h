// Sums over threads, in an order that no scheduling changes.
#pragma once

#include <cstdint>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/threads.h"

namespace longscan {

constexpr unsigned kAllLanes = 0xffffffffu;

/// The sum over a warp, the same bits in all its lanes.
template <class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

/// Sums over a block of `kThreads` threads in x, for all of them. A barrier.
template <int kThreads, int kCount, class T>
__device__ void block_sum(T (&sums)[kCount]) {
  SHARED(T, of_warps, [kThreads / kWarp][kCount]);
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] = warp_sum(sums[i]);
  if (threadIdx.x % kWarp == 0) {
    for (int i = 0; i < kCount; ++i) of_warps[threadIdx.x / kWarp][i] = sums[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    sums[i] = 0;
    for (int warp = 0; warp < kThreads / kWarp; ++warp) sums[i] += of_warps[warp][i];
  }
  __syncthreads();  // the next call writes there
}

/// What becomes of a sum: it replaces what was there or is added to it.
enum class Result { replace, add };

/// Block b: out[b] = the sum of rows [b * piece, (b + 1) * piece), each of kCount numbers.
template <int kCount>
__global__ void sum_rows(double* out, const double* rows, std::int64_t count, std::int64_t piece,
                         Result result) {
  const std::int64_t begin = blockIdx.x * piece;
  const std::int64_t end = begin + piece < count ? begin + piece : count;
  double sums[kCount] = {};
  for (std::int64_t row = begin + threadIdx.x; row < end; row += kBlockThreads) {
    for (int i = 0; i < kCount; ++i) sums[i] += rows[row * kCount + i];
  }
  block_sum<kBlockThreads>(sums);
  if (threadIdx.x != 0) return;
  for (int i = 0; i < kCount; ++i) {
    double& place = out[blockIdx.x * kCount + i];
    place = result == Result::add ? place + sums[i] : sums[i];
  }
}

}  // namespace longscan

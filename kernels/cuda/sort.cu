// A radix sort on the GPU: digit by digit from the lowest, each time count, sum up, move. Every
// place follows from counts, so no scheduling changes the result.
#include "kernels/cuda/sort.h"

#include <utility>

#include "kernels/cuda/reduce.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
static_assert(kDigits == kBlockThreads, "a block has a thread for each digit");
constexpr int kWarps = kBlockThreads / kWarp;
// Occurrences that a block moves.
constexpr std::int64_t kPiece = 2048;

__device__ int digit_of(const Occurrence& occurrence, int shift) {
  return static_cast<int>(occurrence.entry >> shift & (kDigits - 1));
}

// counts[digit][block] = how often a block's piece has the digit.
__global__ void count_digits(std::int64_t* counts, const Occurrence* in, std::int64_t count,
                             int shift) {
  SHARED(int, of_digit, [kDigits]);
  of_digit[threadIdx.x] = 0;
  __syncthreads();
  const std::int64_t begin = blockIdx.x * kPiece;
  const std::int64_t end = begin + kPiece < count ? begin + kPiece : count;
  for (std::int64_t at = begin + threadIdx.x; at < end; at += kBlockThreads) {
    atomicAdd(&of_digit[digit_of(in[at], shift)], 1);
  }
  __syncthreads();
  counts[static_cast<std::int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = of_digit[threadIdx.x];
}

// A warp a digit: its counts become sums of those of the blocks before; totals[digit] of all.
__global__ void scan_digits(std::int64_t* counts, std::int64_t* totals, std::int64_t blocks) {
  const std::int64_t digit = thread_number() / kWarp;
  const auto lane = static_cast<int>(threadIdx.x % kWarp);
  std::int64_t* row = counts + digit * blocks;
  std::int64_t before = 0;
  for (std::int64_t begin = 0; begin < blocks; begin += kWarp) {
    const bool inside = begin + lane < blocks;
    const std::int64_t own = inside ? row[begin + lane] : 0;
    std::int64_t sum = own;
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const std::int64_t other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane >= distance) sum += other;
    }
    if (inside) row[begin + lane] = before + sum - own;
    before += __shfl_sync(kAllLanes, sum, kWarp - 1);
  }
  if (lane == 0) totals[digit] = before;
}

// The lanes of the warp that have this lane's digit; those without one have the digit kDigits.
__device__ unsigned lanes_with(int digit) {
  unsigned lanes = kAllLanes;
#pragma unroll
  for (int bit = 0; bit <= kDigitBits; ++bit) {
    const bool set = (digit >> bit & 1) != 0;
    const unsigned those = __ballot_sync(kAllLanes, set);
    lanes &= set ? those : ~those;
  }
  return lanes;
}

// Block b moves the b-th piece, kBlockThreads occurrences at a time, each behind all of smaller
// digits and those of its own digit that come before it.
__global__ void move_by_digit(Occurrence* out, const Occurrence* in, const std::int64_t* counts,
                              const std::int64_t* totals, std::int64_t count, int shift) {
  SHARED(std::int64_t, next, [kDigits]);  // where the digit's next occurrence goes
  SHARED(int, of_warps, [kWarps][kDigits]);
  const auto thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const unsigned lower_lanes = (1u << thread % kWarp) - 1;
  std::int64_t first = counts[static_cast<std::int64_t>(thread) * gridDim.x + blockIdx.x];
  for (int digit = 0; digit < thread; ++digit) first += totals[digit];
  next[thread] = first;
  const std::int64_t begin = blockIdx.x * kPiece;
  const std::int64_t end = begin + kPiece < count ? begin + kPiece : count;
  for (std::int64_t step = begin; step < end; step += kBlockThreads) {
    for (int other = 0; other < kWarps; ++other) of_warps[other][thread] = 0;
    __syncthreads();
    const bool inside = step + thread < end;
    Occurrence occurrence = {};
    if (inside) occurrence = in[step + thread];
    const int digit = inside ? digit_of(occurrence, shift) : kDigits;
    const unsigned equals = lanes_with(digit);
    const bool leads = (equals & lower_lanes) == 0;
    if (inside && leads) of_warps[warp][digit] = __popc(equals);
    __syncthreads();
    if (inside) {
      std::int64_t place = next[digit] + __popc(equals & lower_lanes);
      for (int other = 0; other < warp; ++other) place += of_warps[other][digit];
      out[place] = occurrence;
    }
    __syncthreads();
    for (int other = 0; other < kWarps; ++other) next[thread] += of_warps[other][thread];
  }
}

}  // namespace

std::int64_t sort_counts(std::int64_t count) {
  return kDigits * (pieces_of(count, kPiece) + 1);
}

Occurrence* sort_by_entry(cudaStream_t stream, Occurrence* occurrences, Occurrence* other,
                          std::int64_t* counts, std::int64_t count, std::int64_t largest) {
  const std::int64_t blocks = pieces_of(count, kPiece);
  std::int64_t* totals = counts + kDigits * blocks;
  for (int shift = 0; (largest >> shift) > 0; shift += kDigitBits) {
    launch(count_digits, Grid(blocks), dim3(kBlockThreads), 0, stream, counts, occurrences, count,
           shift);
    launch_threads(kDigits * kWarp, stream, scan_digits, counts, totals, blocks);
    launch(move_by_digit, Grid(blocks), dim3(kBlockThreads), 0, stream, other, occurrences, counts,
           totals, count, shift);
    std::swap(occurrences, other);
  }
  return occurrences;
}

}  // namespace longscan

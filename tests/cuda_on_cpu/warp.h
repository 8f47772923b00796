// Barriers, and what the lanes of a warp do together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tests/cuda_on_cpu/executor.h"

namespace longscan::cuda_on_cpu {

/// Replaces the value by that of the lane `source`, which must be in the mask.
void shuffle(std::uint32_t mask, void* value, std::size_t bytes, int source, Location location);
/// One bit a lane of the mask.
std::uint32_t ballot(std::uint32_t mask, bool vote, Location location);
enum class Reduction { add, min, max, bit_and, bit_or, bit_xor };
std::int32_t reduce(std::uint32_t mask, std::int32_t value, Reduction operation, Location location);
std::uint32_t reduce(std::uint32_t mask, std::uint32_t value, Reduction operation,
                     Location location);
/// The lanes of the mask whose value has the same bytes.
std::uint32_t match(std::uint32_t mask, const void* value, std::size_t bytes, Location location);

template <class T>
T shuffled(std::uint32_t mask, T value, int source, Location location) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffles move up to 8 bytes");
  shuffle(mask, &value, sizeof(T), source, location);
  return value;
}

}  // namespace longscan::cuda_on_cpu

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  longscan::cuda_on_cpu::block_barrier(longscan::cuda_on_cpu::Vote::none, false, where);
}
inline int __syncthreads_and(int vote,
                             std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::block_barrier(longscan::cuda_on_cpu::Vote::all, vote != 0, where);
}
inline int __syncthreads_or(int vote,
                            std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::block_barrier(longscan::cuda_on_cpu::Vote::any, vote != 0, where);
}
inline int __syncthreads_count(int vote,
                               std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::block_barrier(longscan::cuda_on_cpu::Vote::count, vote != 0, where);
}
inline void __syncwarp(std::uint32_t mask = longscan::cuda_on_cpu::kWholeWarp,
                       std::source_location where = std::source_location::current()) {
  longscan::cuda_on_cpu::warp_barrier(mask, where);
}
// Threads take turns, so what one has written the next one sees; the compiler alone is to be told.
inline void __threadfence() {
  asm volatile("" ::: "memory");
}
inline void __threadfence_block() {
  asm volatile("" ::: "memory");
}
[[noreturn]] inline void __trap() {
  longscan::cuda_on_cpu::fail("__trap()");
}

// Lanes are shuffled in groups of `width`; who would read from beyond its group keeps its own.

template <class T>
T __shfl_sync(std::uint32_t mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current()) {
  const int group = longscan::cuda_on_cpu::lane() & ~(width - 1);
  return longscan::cuda_on_cpu::shuffled(mask, value, group | (source & (width - 1)), where);
}
template <class T>
T __shfl_xor_sync(std::uint32_t mask, T value, int bits, int width = 32,
                  std::source_location where = std::source_location::current()) {
  const int lane = longscan::cuda_on_cpu::lane();
  const int source = lane ^ bits, end = (lane & ~(width - 1)) + width;
  return longscan::cuda_on_cpu::shuffled(mask, value, source < end ? source : lane, where);
}
template <class T>
T __shfl_up_sync(std::uint32_t mask, T value, unsigned distance, int width = 32,
                 std::source_location where = std::source_location::current()) {
  const int lane = longscan::cuda_on_cpu::lane();
  const int source = lane - static_cast<int>(distance), begin = lane & ~(width - 1);
  return longscan::cuda_on_cpu::shuffled(mask, value, source >= begin ? source : lane, where);
}
template <class T>
T __shfl_down_sync(std::uint32_t mask, T value, unsigned distance, int width = 32,
                   std::source_location where = std::source_location::current()) {
  const int lane = longscan::cuda_on_cpu::lane();
  const int source = lane + static_cast<int>(distance), end = (lane & ~(width - 1)) + width;
  return longscan::cuda_on_cpu::shuffled(mask, value, source < end ? source : lane, where);
}

inline unsigned __ballot_sync(std::uint32_t mask, int vote,
                              std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::ballot(mask, vote != 0, where);
}
inline int __any_sync(std::uint32_t mask, int vote,
                      std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::ballot(mask, vote != 0, where) != 0;
}
inline int __all_sync(std::uint32_t mask, int vote,
                      std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::ballot(mask, vote == 0, where) == 0;
}
template <class T>
unsigned __match_any_sync(std::uint32_t mask, T value,
                          std::source_location where = std::source_location::current()) {
  return longscan::cuda_on_cpu::match(mask, &value, sizeof value, where);
}

// As on the GPU for 32-bit integers, and nothing else.
#define LONGSCAN_WARP_REDUCTION(name, operation)                                                   \
  inline int name(std::uint32_t mask, int value,                                                   \
                  std::source_location where = std::source_location::current()) {                  \
    return longscan::cuda_on_cpu::reduce(mask, value, longscan::cuda_on_cpu::Reduction::operation, \
                                         where);                                                   \
  }                                                                                                \
  inline unsigned name(std::uint32_t mask, unsigned value,                                         \
                       std::source_location where = std::source_location::current()) {             \
    return longscan::cuda_on_cpu::reduce(mask, value, longscan::cuda_on_cpu::Reduction::operation, \
                                         where);                                                   \
  }
LONGSCAN_WARP_REDUCTION(__reduce_add_sync, add)
LONGSCAN_WARP_REDUCTION(__reduce_min_sync, min)
LONGSCAN_WARP_REDUCTION(__reduce_max_sync, max)
LONGSCAN_WARP_REDUCTION(__reduce_and_sync, bit_and)
LONGSCAN_WARP_REDUCTION(__reduce_or_sync, bit_or)
LONGSCAN_WARP_REDUCTION(__reduce_xor_sync, bit_xor)
#undef LONGSCAN_WARP_REDUCTION

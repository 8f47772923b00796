// How the operations on tokens are cut into pieces of work.
#pragma once

#include <algorithm>
#include <cstdint>

namespace longscan {

/// Numbers in a piece of work: some microseconds, 64 KiB of f32. What is smaller stays on the
/// calling thread. A constant, and no function of the number of threads, so that results are none
/// either.
constexpr std::int64_t kBlockNumbers = 1 << 14;

/// Rows in a piece of work.
constexpr std::int64_t block_rows(std::int64_t columns) {
  return std::max<std::int64_t>(1, kBlockNumbers / std::max<std::int64_t>(1, columns));
}

/// Blocks that `count` things make, the last one perhaps smaller.
constexpr std::int64_t count_blocks(std::int64_t count, std::int64_t block) {
  return (count + block - 1) / block;
}

}  // namespace longscan

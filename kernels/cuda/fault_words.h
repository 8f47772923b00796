// Where kernels leave word of bad data: they cannot throw, so the next call that waits does.
#pragma once

#include <cstdint>

namespace longscan {

/// Of every kind the largest number that was wrong, 0 where none was: the same whatever the order
/// of threads.
struct Faults {
  unsigned long long index_outside_table = 0;
  unsigned long long target_beyond_vocabulary = 0;
  unsigned long long position_beyond_projection = 0;

  bool operator==(const Faults&) const = default;
};

/// Added to a number, so that every index makes a word above 0.
constexpr std::int64_t kFaultBias = std::int64_t{1} << 62;

}  // namespace longscan

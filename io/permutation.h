// An order of 0 .. count - 1 that is computed entry by entry, so shuffling a corpus of any size
// needs no memory and its state is a few integers.
#pragma once

#include <cstdint>

#include "kernels/random.h"

namespace longscan {

/// A Feistel network (Luby and Rackoff 1988) over the smallest even number of bits that holds
/// `count` numbers, keyed by Philox. Results that are not below `count` go through it again until
/// one is, four times at most on average ("cycle walking", Black and Rogaway 2002).
class KeyedPermutation {
 public:
  /// `count` in [1, 2^62].
  KeyedPermutation(std::int64_t count, RandomKey key) : count_(count), key_(key) {
    while ((std::int64_t{1} << (2 * half_bits_)) < count) ++half_bits_;
  }

  /// The entry at `index`, 0 <= index < count.
  std::int64_t at(std::int64_t index) const {
    auto value = static_cast<std::uint64_t>(index);
    do value = mix(value);
    while (value >= static_cast<std::uint64_t>(count_));
    return static_cast<std::int64_t>(value);
  }

 private:
  static constexpr std::uint64_t kRounds = 8;

  std::uint64_t mix(std::uint64_t value) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = value >> half_bits_;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      // `right` has at most 31 bits, so round and right are an index of their own.
      const std::uint64_t noise = random_words(key_, (round << 32) | right)[0];
      const std::uint64_t next = left ^ (noise & mask);
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }

  std::int64_t count_;
  RandomKey key_;
  int half_bits_ = 1;
};

}  // namespace longscan

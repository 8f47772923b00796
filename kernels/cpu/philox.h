// Philox words of many counters at a time, written so that the compiler computes them in vectors.
#pragma once

#include <cstdint>

#include "kernels/random.h"

namespace longscan {

/// The words of consecutive blocks of a random stream: word w of block b is words()[4 b + w], equal
/// to random_words(key, first + b)[w].
class RandomTile {
 public:
  static constexpr std::int64_t kBlocks = 256;
  static constexpr std::int64_t kWords = 4 * kBlocks;

  void fill(const RandomKey& key, std::uint64_t first) {
#pragma omp simd
    for (std::int64_t block = 0; block < kBlocks; ++block) {
      fill_block(words_ + 4 * block, key, first + static_cast<std::uint64_t>(block));
    }
  }
  const std::uint32_t* words() const {
    return words_;
  }

 private:
  // Words are kept in 64-bit lanes, where their products belong: packing them between the rounds
  // would take longer than the rounds.
  [[gnu::always_inline]] static void fill_block(std::uint32_t* words, const RandomKey& key,
                                                std::uint64_t index) {
    constexpr std::uint64_t kLow = 0xFFFFFFFF;
    std::uint64_t counter[4] = {index & kLow, index >> 32, key.step & kLow, key.step >> 32};
    auto [key0, key1] = philox_key(key);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t product0 = (counter[0] & kLow) * kPhiloxMultiplier0;
      const std::uint64_t product1 = (counter[2] & kLow) * kPhiloxMultiplier1;
      counter[0] = (product1 >> 32) ^ counter[1] ^ key0;
      counter[1] = product1 & kLow;
      counter[2] = (product0 >> 32) ^ counter[3] ^ key1;
      counter[3] = product0 & kLow;
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
    }
    for (int word = 0; word < 4; ++word) words[word] = static_cast<std::uint32_t>(counter[word]);
  }

  alignas(64) std::uint32_t words_[kWords];
};

}  // namespace longscan

// Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
// easy as 1, 2, 3").
//
// A number is a function of (seed, purpose, step, global index) and of nothing else, so it is the
// same on every rank, for every sharding, and after a resume.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace longscan {

/// What a random number is for; numbers of different purposes are independent.
enum class RandomPurpose : std::uint32_t {
  initial_weight = 1,
  dropout = 2,
  shuffle = 3,
  sample = 4,
  masking = 5,
  random_features = 6
};

/// The key of a stream. `step` distinguishes uses of one purpose: a training step and layer, a
/// parameter, an epoch.
struct RandomKey {
  std::uint64_t seed = 0;
  RandomPurpose purpose = RandomPurpose::initial_weight;
  std::uint64_t step = 0;
};

using RandomWords = std::array<std::uint32_t, 4>;

// Multipliers of the counter words and increments of the key words (Salmon et al. 2011, table 2).
inline constexpr std::uint64_t kPhiloxMultiplier0 = 0xD2511F53;
inline constexpr std::uint64_t kPhiloxMultiplier1 = 0xCD9E8D57;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9;
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85;

/// The ten rounds of Philox 4x32; equal to Random123's philox4x32.
constexpr RandomWords philox(RandomWords counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kPhiloxMultiplier0 * counter[0];
    const std::uint64_t product1 = kPhiloxMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key0,
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key1,
               static_cast<std::uint32_t>(product0)};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

/// The two words of a key: the seed, with the purpose mixed in, since the counter has no bits left
/// for it.
constexpr std::array<std::uint32_t, 2> philox_key(const RandomKey& key) {
  const std::uint32_t purpose = static_cast<std::uint32_t>(key.purpose) * 0x9E3779B9u;
  return {static_cast<std::uint32_t>(key.seed),
          static_cast<std::uint32_t>(key.seed >> 32) ^ purpose};
}

/// Four words for `index`: index and step fill the counter.
constexpr RandomWords random_words(const RandomKey& key, std::uint64_t index) {
  const auto low = [](std::uint64_t word) { return static_cast<std::uint32_t>(word); };
  const auto high = [](std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); };
  const auto [key0, key1] = philox_key(key);
  return philox({low(index), high(index), low(key.step), high(key.step)}, key0, key1);
}

/// Uniform in (0, 1), never an end point.
constexpr double uniform_from(std::uint32_t word) {
  return (word + 0.5) * 0x1p-32;
}

/// Standard normal for `index` (Box-Muller, computed in double).
inline double random_normal(const RandomKey& key, std::uint64_t index) {
  const RandomWords words = random_words(key, index);
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  return std::sqrt(-2.0 * std::log(uniform_from(words[0]))) *
         std::cos(kTwoPi * uniform_from(words[1]));
}

}  // namespace longscan

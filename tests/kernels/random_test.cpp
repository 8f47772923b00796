// Philox against the known answers of Random123, and the moments of what is made from it.
#include "kernels/random.h"

#include <gtest/gtest.h>

#include <set>

namespace longscan {
namespace {

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0, 0),
            (RandomWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, kOnes, kOnes),
            (RandomWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (RandomWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomWords, DependOnEveryPartOfTheKeyAndTheIndex) {
  const std::uint64_t high = std::uint64_t{1} << 32;
  std::set<RandomWords> seen;
  for (const std::uint64_t seed : {std::uint64_t{1}, high}) {
    for (const RandomPurpose purpose : {RandomPurpose::initial_weight, RandomPurpose::dropout,
                                        RandomPurpose::shuffle, RandomPurpose::sample}) {
      for (const std::uint64_t step : {std::uint64_t{1}, high}) {
        for (const std::uint64_t index : {std::uint64_t{1}, high}) {
          seen.insert(random_words({.seed = seed, .purpose = purpose, .step = step}, index));
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 2u * 4u * 2u * 2u);
}

TEST(Uniform, NeverReachesAnEndPoint) {
  EXPECT_GT(uniform_from(0), 0.0);
  EXPECT_LT(uniform_from(0xffffffff), 1.0);
  EXPECT_EQ(uniform_from(0) + uniform_from(0xffffffff), 1.0);
}

TEST(RandomNormal, HasTheMomentsOfANormal) {
  const RandomKey key = {.seed = 2026};
  constexpr int kCount = 200000;
  double moments[5] = {};
  for (int i = 0; i < kCount; ++i) {
    const double x = random_normal(key, static_cast<std::uint64_t>(i));
    double power = 1;
    for (double& moment : moments) {
      moment += power / kCount;
      power *= x;
    }
  }
  // Four standard errors: the variances of x, x^2, x^3, x^4 are 1, 2, 15, 96.
  const double error = 4 / std::sqrt(kCount);
  EXPECT_NEAR(moments[1], 0, error);
  EXPECT_NEAR(moments[2], 1, error * std::sqrt(2));
  EXPECT_NEAR(moments[3], 0, error * std::sqrt(15));
  EXPECT_NEAR(moments[4], 3, error * std::sqrt(96));
}

TEST(RandomNormal, IsUncorrelatedFromIndexToIndexAndFromSeedToSeed) {
  constexpr int kCount = 100000;
  double neighbours = 0;
  double seeds = 0;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const double x = random_normal({.seed = 1}, i);
    neighbours += x * random_normal({.seed = 1}, i + 1) / kCount;
    seeds += x * random_normal({.seed = 2}, i) / kCount;
  }
  EXPECT_NEAR(neighbours, 0, 4 / std::sqrt(kCount));
  EXPECT_NEAR(seeds, 0, 4 / std::sqrt(kCount));
}

}  // namespace
}  // namespace longscan

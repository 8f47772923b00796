// The branch-free elementary functions against the standard library in double.
#include "kernels/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

namespace longscan::vector_math {
namespace {

// The distance from the true value in units of the last place of a float of its size.
double error_in_ulp(float actual, double expected) {
  const int exponent = std::max(std::ilogb(std::max(std::abs(expected), 1e-300)), -126);
  return std::abs(static_cast<double>(actual) - expected) / std::ldexp(1.0, exponent - 23);
}

TEST(VectorExp, IsRightToTwoUlpOverAllFloats) {
  double worst = 0;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 997) {
    const float x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(x)) {
      ASSERT_TRUE(std::isnan(exp(x)));
      continue;
    }
    const double expected = std::exp(static_cast<double>(x));
    if (std::isinf(static_cast<float>(expected))) {
      ASSERT_EQ(exp(x), std::numeric_limits<float>::infinity()) << x;
    } else {
      worst = std::max(worst, error_in_ulp(exp(x), expected));
    }
  }
  EXPECT_LT(worst, 2.0);
}

TEST(VectorExp, IsExactAtZeroAndMeetsItsLimits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp(0.0f), 1.0f);
  EXPECT_EQ(exp(-0.0f), 1.0f);
  EXPECT_EQ(exp(kInfinity), kInfinity);
  EXPECT_EQ(exp(-kInfinity), 0.0f);
  EXPECT_EQ(exp(1e30f), kInfinity);
  EXPECT_EQ(exp(-1e30f), 0.0f);
  EXPECT_EQ(exp(-104.0f), 0.0f);
  EXPECT_EQ(exp(-103.0f), std::numeric_limits<float>::denorm_min());
  EXPECT_TRUE(std::isinf(exp(88.73f)));
  EXPECT_TRUE(std::isfinite(exp(88.72f)));
}

TEST(VectorExp, NeverFallsByMoreThanARounding) {
  float before = 0;
  for (float x = -104; x < 88; x = x + 1e-3f) {
    EXPECT_GE(exp(x), before * (1 - 0x1p-22f)) << x;
    before = exp(x);
  }
}

TEST(VectorExpOfNegative, IsRightToTwoUlpAndNeverZero) {
  for (float x = 0; x > -87; x = x * 1.0007f - 1e-6f) {
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(vector_math::exp_of_negative(x), exact, 2.4e-7 * exact) << x;
  }
  EXPECT_EQ(vector_math::exp_of_negative(0.0f), 1.0f);
  EXPECT_GT(vector_math::exp_of_negative(-1e30f), 0.0f);
}

TEST(Sigmoid, ReachesItsLimitsWithoutNan) {
  EXPECT_EQ(sigmoid(1e4f), 1.0f);
  EXPECT_EQ(sigmoid(-1e4f), 0.0f);
  EXPECT_EQ(sigmoid(0.0), 0.5);
  EXPECT_EQ(sigmoid(-1e4), 0.0);
  EXPECT_TRUE(std::isnan(sigmoid(std::nanf(""))));
}

TEST(SineCosineOfTurns, EqualsTheStandardLibrary) {
  for (int i = -50000; i <= 50000; ++i) {
    const double turns = i / 100000.0;
    const double angle = 2 * std::numbers::pi * turns;
    const auto [sine, cosine] = sine_cosine_of_turns(turns);
    ASSERT_NEAR(sine, std::sin(angle), 1e-15) << turns;
    ASSERT_NEAR(cosine, std::cos(angle), 1e-15) << turns;
  }
}

TEST(SineCosineOfTurns, IsExactAtQuarterTurns) {
  EXPECT_EQ(sine_cosine_of_turns(0.0).sine, 0.0);
  EXPECT_EQ(sine_cosine_of_turns(0.25).sine, 1.0);
  EXPECT_EQ(sine_cosine_of_turns(0.25).cosine, 0.0);
  EXPECT_EQ(sine_cosine_of_turns(-0.25).sine, -1.0);
  EXPECT_EQ(sine_cosine_of_turns(0.5).cosine, -1.0);
  EXPECT_EQ(sine_cosine_of_turns(-0.5).cosine, -1.0);
}

}  // namespace
}  // namespace longscan::vector_math

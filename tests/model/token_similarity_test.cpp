// Attention by pair of kinds, on cases small enough to be added up by hand.
#include "model/token_similarity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::expect_error;
using test::OwnedTensor;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

void expect_values(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(std::isnan(actual[i]), std::isnan(expected[i])) << i;
    if (!std::isnan(expected[i])) {
      EXPECT_NEAR(actual[i], expected[i], 1e-12) << i;
    }
  }
}

TEST(TokenSimilarity, IsTheShareOfAPairOverThatOfEvenAttention) {
  // Two heads over tokens of kinds 0, 1, 0 and one of none.
  const OwnedTensor matrices(DType::f64, {2, 4, 4}, {0.1, 0.2, 0.3, 0.4,  //
                                                     0.5, 0.1, 0.2, 0.2,  //
                                                     0.0, 0.8, 0.1, 0.1,  //
                                                     0.7, 0.1, 0.1, 0.1,  //
                                                     0.4, 0.0, 0.6, 0.0,  //
                                                     0.3, 0.3, 0.1, 0.3,  //
                                                     0.2, 0.2, 0.2, 0.4,  //
                                                     0.0, 0.0, 0.5, 0.5});
  const std::int32_t kinds[] = {0, 1, 0, 7};
  TokenSimilarity similarity(3, 2);
  similarity.add(0, matrices, kinds, false);
  // Evenly every weight is 1/4. Pairs 0-0: (0, 2) and (2, 0) of both heads, and so on.
  expect_values(similarity.values(),
                {(0.3 + 0.0 + 0.6 + 0.2) / 1.0, (0.2 + 0.8 + 0.0 + 0.2) / 1.0, kNone,
                 (0.5 + 0.2 + 0.3 + 0.1) / 1.0, kNone, kNone, kNone, kNone, kNone});
}

TEST(TokenSimilarity, OfCausalAttentionIsOfKeysBeforeTheQuery) {
  const OwnedTensor matrices(DType::f32, {1, 3, 3},
                             {1.0, 0.0, 0.0,    //
                              0.75, 0.25, 0.0,  //
                              0.125, 0.5, 0.375});
  const std::int32_t kinds[] = {0, 1, 0};
  TokenSimilarity similarity(2, 1);
  similarity.add(0, matrices, kinds, true);
  // Evenly token 1 gives each of two tokens 1/2, token 2 each of three 1/3.
  expect_values(similarity.values(), {0.125 * 3, 0.5 * 3, 0.75 * 2, kNone});
}

TEST(TokenSimilarity, OfEvenAttentionIsOneWhateverTheFrequenciesAndLengths) {
  TokenSimilarity similarity(3, 2);
  for (const bool causal : {true, false}) {
    for (const std::int64_t tokens : {2, 9, 31}) {
      OwnedTensor matrices(DType::f64, {2, tokens, tokens});
      std::vector<std::int32_t> kinds;
      for (std::int64_t row = 0; row < tokens; ++row) {
        // The first kind is much more frequent.
        kinds.push_back(row % 5 == 1 ? 1 : row % 7 == 3 ? 2 : 0);
        const std::int64_t seen = causal ? row + 1 : tokens;
        for (std::int64_t key = 0; key < seen; ++key) {
          for (const std::int64_t head : {0, 1}) {
            matrices.set((head * tokens + row) * tokens + key, 1.0 / static_cast<double>(seen));
          }
        }
      }
      similarity.add(0, matrices, kinds, causal);
    }
  }
  expect_values(similarity.values(), std::vector<double>(9, 1));
}

TEST(TokenSimilarity, SumsOfPartsAreThoseOfTheWhole) {
  const OwnedTensor first = OwnedTensor::random(DType::f64, {1, 6, 6}, 1);
  const OwnedTensor second = OwnedTensor::random(DType::f64, {1, 6, 6}, 2);
  const std::int32_t kinds[] = {0, 1, 1, 0, 1, 0};
  TokenSimilarity whole(2, 1);
  whole.add(0, first, kinds, false);
  whole.add(0, second, kinds, false);
  TokenSimilarity one(2, 1);
  TokenSimilarity other(2, 1);
  one.add(0, first, kinds, false);
  other.add(0, second, kinds, false);
  for (std::size_t i = 0; i < one.sums().size(); ++i) one.sums()[i] += other.sums()[i];
  expect_values(one.values(), whole.values());
}

TEST(TokenSimilarity, LikenessIsTheCorrelationOfWhatKindsAttendTo) {
  // Tokens of kinds 0, 1, 2 and one of none; even attention gives each 1/4. Every kind is once
  // attended to by each other kind, and never by itself.
  const std::int32_t kinds[] = {0, 1, 2, 9};
  TokenSimilarity similarity(3, 3);
  const auto add = [&](std::int64_t head, const std::vector<double>& weights) {
    similarity.add(head, OwnedTensor(DType::f64, {1, 4, 4}, weights), kinds, false);
  };
  add(0, {0, 0.1, 0.2, 0, 0.3, 0, 0.5, 0, 0.4, 0.2, 0, 0, 0, 0, 0, 0});
  add(1, {0, 0.3, 0.6, 0, 0.1, 0, 0.4, 0, 0.3, 0.2, 0, 0, 0, 0, 0, 0});
  add(2, {0, 0.2, 0.1, 0, 0.2, 0, 0.6, 0, 0.1, 0.7, 0, 0, 0, 0, 0, 0});
  const auto of_three = [](std::vector<double> a, std::vector<double> b) {
    double products = 0;
    double squares_a = 0;
    double squares_b = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const double x = a[i] - (a[0] + a[1] + a[2]) / 3;
      const double y = b[i] - (b[0] + b[1] + b[2]) / 3;
      products += x * y;
      squares_a += x * x;
      squares_b += y * y;
    }
    return products / std::sqrt(squares_a * squares_b);
  };
  // 0 and 1 have kind 2 in common, 0 and 2 kind 1, 1 and 2 kind 0; in three heads.
  const double zero_one = of_three({0.2, 0.6, 0.1}, {0.5, 0.4, 0.6});
  const double zero_two = of_three({0.1, 0.3, 0.2}, {0.2, 0.2, 0.7});
  const double one_two = of_three({0.3, 0.1, 0.2}, {0.4, 0.3, 0.1});
  expect_values(similarity.likeness(),
                {1, zero_one, zero_two, zero_one, 1, one_two, zero_two, one_two, 1});
}

TEST(TokenSimilarity, LikenessOfAKindThatIsNotThereIsNotKnown) {
  const std::int32_t kinds[] = {0, 1, 0, 1};
  TokenSimilarity similarity(3, 1);
  similarity.add(0, OwnedTensor::random(DType::f64, {1, 4, 4}, 1), kinds, false);
  const std::vector<double> likeness = similarity.likeness();
  EXPECT_TRUE(std::isnan(likeness[2]) && std::isnan(likeness[5]) && std::isnan(likeness[8]));
  EXPECT_NEAR(std::abs(likeness[1]), 1, 1e-12);
}

TEST(TokenSimilarity, RefusesMatricesOfOtherTokens) {
  TokenSimilarity similarity(2, 1);
  const std::int32_t kinds[] = {0, 1};
  expect_error(ErrorKind::internal, "TokenSimilarity.matrices", [&] {
    similarity.add(0, OwnedTensor(DType::f32, {1, 3, 3}), kinds, true);
  });
}

TEST(TokenSimilarity, TakesBothOrdersOfAPairTogether) {
  expect_values(symmetrized(std::vector<double>{1, 2, kNone, 4, 5, 6, 7, kNone, 9}, 3),
                {1, 3, 7, 3, 5, 6, 7, 6, 9});
  expect_values(symmetrized(std::vector<double>{1, kNone, kNone, 4}, 2), {1, kNone, kNone, 4});
}

TEST(TokenSimilarity, CorrelatesWithoutTheDiagonalAndUnknownPairs) {
  // Pairs (0, 1), (0, 2), (0, 3), (1, 2), (1, 3); (2, 3) is not known.
  const std::vector<double> a = {90, 1,  2,     3,      //
                                 1,  90, 4,     10,     //
                                 2,  4,  90,    kNone,  //
                                 3,  10, kNone, 90};
  const std::vector<double> b = {-5, 2,  1,  5,   //
                                 2,  -5, 5,  7,   //
                                 1,  5,  -5, 99,  //
                                 5,  7,  99, -5};
  const Correlations correlations = correlate(a, b, 4);
  EXPECT_EQ(correlations.pairs, 5);
  // x = 1, 2, 3, 4, 10 (mean 4) and y = 2, 1, 5, 5, 7 (mean 4).
  const double products = 3 * 2 + 2 * 3 - 1 * 1 + 0 + 6 * 3;
  EXPECT_NEAR(correlations.pearson, products / std::sqrt((9 + 4 + 1 + 36) * (4 + 9 + 1 + 1 + 9)),
              1e-12);
  // Ranks 0, 1, 2, 3, 4 and 1, 0, 2.5, 2.5, 4, both of mean 2.
  EXPECT_NEAR(correlations.spearman,
              (2 * 1 + 1 * 2 + 0 + 0.5 + 2 * 2) / std::sqrt(10 * (1 + 4 + 0.25 + 0.25 + 4)), 1e-12);
}

TEST(TokenSimilarity, WithoutDifferencesThereIsNoCorrelation) {
  const std::vector<double> same(9, 2);
  const std::vector<double> other = {0, 1, 2, 1, 0, 3, 2, 3, 0};
  EXPECT_TRUE(std::isnan(correlate(same, other, 3).pearson));
  EXPECT_TRUE(std::isnan(correlate(same, other, 3).spearman));
}

}  // namespace
}  // namespace longscan

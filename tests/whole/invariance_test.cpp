// Loss and every gradient are what one rank with one segment computes, however the line is cut.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/trained_once.h"

namespace longscan {
namespace {

using test::difference;
using test::Line;
using test::random_line;
using test::starts_around_cuts;
using test::train_once;
using test::Trained;

constexpr std::int32_t kVocabulary = 19;

ModelOptions small_model(DType dtype) {
  return {.vocabulary = kVocabulary,
          .width = 24,
          .layers = 3,
          .heads = 3,
          .hidden = 40,
          .positions = Positions::rotary,
          .tied_embedding = true,
          .dtype = dtype};
}

const std::vector<std::int64_t> kManyStarts = {1, 2, 40, 98, 99, 100, 132, 133, 134, 147};

class Cuts : public ::testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(Cuts, ChangeNothingInDouble) {
  const auto [ranks, segments] = GetParam();
  for (const std::int64_t size : {198, 131}) {  // of odd length: with empty shards and segments
    for (const auto& starts : starts_around_cuts(size, segments, ranks)) {
      const Line line = random_line(size, kVocabulary, starts);
      const ModelOptions options = small_model(DType::f64);
      const Trained whole = train_once(options, line, 1, 1);
      const Trained cut = train_once(options, line, ranks, segments);
      EXPECT_EQ(cut.totals.tokens, whole.totals.tokens);
      EXPECT_EQ(cut.totals.correct, whole.totals.correct);
      EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-12);
      EXPECT_LT(difference(cut, whole), 1e-12);
    }
  }
}

TEST_P(Cuts, ChangeNothingWithDropout) {
  const auto [ranks, segments] = GetParam();
  const Line line = random_line(150, kVocabulary, kManyStarts);
  const ModelOptions options = small_model(DType::f64);
  const Trained whole = train_once(options, line, 1, 1, 1, 0.25);
  EXPECT_GT(difference(train_once(options, line, 1, 1), whole), 1e-3) << "dropout does nothing";
  EXPECT_LT(difference(train_once(options, line, ranks, segments, 1, 0.25), whole), 1e-12);
}

TEST_P(Cuts, AreNoWorseInFloatThanOneRank) {
  const auto [ranks, segments] = GetParam();
  const Line line = random_line(1500, kVocabulary, {300, 301, 1100});
  const Trained truth = train_once(small_model(DType::f64), line, 1, 1);
  const Trained whole = train_once(small_model(DType::f32), line, 1, 1);
  const Trained cut = train_once(small_model(DType::f32), line, ranks, segments);
  EXPECT_LT(difference(whole, truth), 1e-4);
  EXPECT_LT(mean_difference(cut, truth), 1.1 * mean_difference(whole, truth));
}

INSTANTIATE_TEST_SUITE_P(RanksAndSegments, Cuts,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 6, 8),
                                            ::testing::Values(1, 2, 3, 7)));

TEST(Invariance, HoldsForEveryChoiceOfTheModel) {
  const Line line = random_line(120, kVocabulary, {30, 61, 62});
  for (const Positions positions : {Positions::sinusoidal, Positions::learned, Positions::none}) {
    for (const MlpKind mlp : {MlpKind::gelu, MlpKind::relu, MlpKind::swiglu}) {
      ModelOptions options = small_model(DType::f64);
      options.positions = positions;
      options.longest_document = 120;
      options.mlp = mlp;
      options.norm = mlp == MlpKind::swiglu ? NormKind::rms_norm : NormKind::layer_norm;
      options.tied_embedding = mlp != MlpKind::relu;
      const Trained whole = train_once(options, line, 1, 1);
      EXPECT_LT(difference(train_once(options, line, 3, 2), whole), 1e-12);
    }
  }
}

TEST(Invariance, HoldsForEveryNumberOfThreads) {
  // Long enough that a line with three heads is cut into parts by two and by four threads.
  const Line line = random_line(1100, kVocabulary, {400});
  const ModelOptions options = small_model(DType::f64);
  const Trained one = train_once(options, line, 1, 1, 1);
  for (const int threads : {2, 4}) {
    EXPECT_LT(difference(train_once(options, line, 1, 1, threads), one), 1e-12);
    EXPECT_LT(difference(train_once(options, line, 2, 2, threads), one), 1e-12);
  }
}

}  // namespace
}  // namespace longscan

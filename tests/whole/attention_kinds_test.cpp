// Every kind of attention: loss and every gradient are what one rank computes, however the line is
// cut.
#include <gtest/gtest.h>

#include <vector>

#include "model/trainer.h"
#include "tests/support/attention_forms.h"
#include "tests/support/trained_once.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 13;

class AttentionKinds : public ::testing::TestWithParam<AttentionForm> {
 protected:
  static ModelOptions options() { return small_model(GetParam(), kVocabulary); }
};

TEST_P(AttentionKinds, RanksChangeNothing) {
  for (const int ranks : {2, 3, 4, 6, 8}) {
    const std::int64_t size = ranks == 2 ? 131 : 102;  // an odd one brings an empty shard to two
    for (const auto& starts : starts_around_cuts(size, 1, ranks)) {
      const Line line = random_line(size, kVocabulary, starts);
      const Trained whole = train_once(options(), line, 1, 1);
      const Trained cut = train_once(options(), line, ranks, 1);
      EXPECT_EQ(cut.totals.correct, whole.totals.correct);
      EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-12);
      EXPECT_LT(difference(cut, whole), 1e-11) << ranks << " ranks";
    }
  }
}

TEST_P(AttentionKinds, SegmentsChangeNothing) {
  if (!options().takes_segments()) return;
  const Line line = random_line(131, kVocabulary, {40, 41, 97});
  const Trained whole = train_once(options(), line, 1, 1);
  for (const int ranks : {1, 2, 3}) {
    for (const int segments : {2, 3, 7}) {
      EXPECT_LT(difference(train_once(options(), line, ranks, segments), whole), 1e-11)
          << ranks << " ranks, " << segments << " segments";
    }
  }
}

// Cuts of the line that the model takes.
std::vector<int> segments_of(const ModelOptions& model) {
  return model.takes_segments() ? std::vector<int>{1, 3} : std::vector<int>{1};
}

TEST_P(AttentionKinds, CutsChangeNothingWithDropoutAndMaskedTokens) {
  Line line = random_line(103, kVocabulary, {1, 40, 52, 53});
  for (std::size_t i = 0; i < line.targets.size(); ++i) {
    if (i % 6 != 0) line.targets[i] = -1;  // as where tokens are masked: few are predicted
    line.attended.push_back(i % 5 == 2 ? 0 : 1);
  }
  const Trained whole = train_once(options(), line, 1, 1, 1, 0.2);
  for (const int segments : segments_of(options())) {
    for (const int ranks : {2, 3, 4, 6, 8}) {  // from four on, one in the middle has no tokens
      EXPECT_LT(difference(train_once(options(), line, ranks, segments, 2, 0.2), whole), 1e-11)
          << ranks << " ranks, " << segments << " segments";
    }
  }
}

// The mean losses of three steps, random features drawn anew before each but the first.
std::vector<double> losses_of_training(ModelOptions options, const Line& line, int ranks,
                                       int segments) {
  options.attention.redraw_interval = 1;
  options.dropout = 0.2;
  std::vector<double> losses;
  run_ranks(ranks, [&](Communicator& world) {
    Mesh mesh(world, 0);
    Device device = Device::cpu(1);
    Trainer trainer(options, {.learning_rate = 1e-2, .warmup_steps = 1, .total_steps = 3}, 1,
                    device, mesh);
    const RankLine mine = shards_of(line, segments, ranks, world.rank());
    for (int step = 0; step < 3; ++step) {
      const LossTotals totals = trainer.step(mine.shards).totals;
      if (world.rank() == 0) losses.push_back(totals.loss / totals.tokens);
    }
  });
  return losses;
}

TEST_P(AttentionKinds, CutsChangeNothingOverStepsThatDrawFeaturesAnew) {
  const Line line = random_line(102, kVocabulary, {35, 36});
  const std::vector<double> whole = losses_of_training(options(), line, 1, 1);
  EXPECT_LT(whole[2], whole[0]);
  for (const int segments : segments_of(options())) {
    for (const int ranks : {1, 2, 3, 4}) {
      const std::vector<double> cut = losses_of_training(options(), line, ranks, segments);
      for (std::size_t step = 0; step < whole.size(); ++step) {
        EXPECT_NEAR(cut[step] / whole[step], 1, 1e-9)
            << ranks << " ranks, " << segments << " segments, step " << step;
      }
    }
  }
}

TEST_P(AttentionKinds, RanksAndSegmentsChangeNothingInReversibleModels) {
  ModelOptions model = options();
  model.reversible = true;
  model.layers = 3;
  const Line line = random_line(131, kVocabulary, {40, 41, 97});
  const Trained whole = train_once(model, line, 1, 1, 1, 0.2);
  for (const int segments : {1, 2, 3}) {
    if (segments > 1 && !model.takes_segments()) continue;
    for (const int ranks : {1, 2, 3, 4}) {
      const Trained cut = train_once(model, line, ranks, segments, 1, 0.2);
      EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-12);
      EXPECT_LT(difference(cut, whole), 1e-11) << ranks << " ranks, " << segments << " segments";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionKinds, ::testing::ValuesIn(all_attention_forms()),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace longscan::test

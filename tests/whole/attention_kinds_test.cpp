// Every kind of attention: loss and every gradient are what one rank computes, however the line is
// cut, and the gradients are right.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/trained_once.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 13;

ModelOptions small_model(AttentionKind kind, bool causal) {
  return {.vocabulary = kVocabulary,
          .width = 12,
          .layers = 2,
          .heads = 2,
          .hidden = 20,
          .positions = Positions::rotary,
          .longest_document = 210,
          .causal = causal,
          .attention = {.kind = kind, .features = 9, .projected_length = 7},
          .dtype = DType::f64};
}

struct Form {
  AttentionKind kind;
  bool causal;
};

std::vector<Form> all_forms() {
  std::vector<Form> forms;
  for (const AttentionKind kind :
       {AttentionKind::elu1, AttentionKind::relu, AttentionKind::favor_softmax,
        AttentionKind::favor_hyperbolic, AttentionKind::favor_relu, AttentionKind::linformer,
        AttentionKind::identity}) {
    if (kind != AttentionKind::linformer) forms.push_back({kind, true});
    forms.push_back({kind, false});
  }
  return forms;
}

std::string describe(const Form& form) {
  return std::string(name_of(form.kind)) + (form.causal ? "_causal" : "_bidirectional");
}

class AttentionKinds : public ::testing::TestWithParam<Form> {};

TEST_P(AttentionKinds, RanksChangeNothing) {
  const auto [kind, causal] = GetParam();
  const ModelOptions options = small_model(kind, causal);
  for (const int ranks : {2, 3, 4, 6, 8}) {
    const std::int64_t size = ranks == 2 ? 131 : 102;  // an odd one brings an empty shard to two
    for (const auto& starts : starts_around_cuts(size, 1, ranks)) {
      const Line line = random_line(size, kVocabulary, starts);
      const Trained whole = train_once(options, line, 1, 1);
      const Trained cut = train_once(options, line, ranks, 1);
      EXPECT_EQ(cut.totals.correct, whole.totals.correct);
      EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-12);
      EXPECT_LT(difference(cut, whole), 1e-11) << ranks << " ranks";
    }
  }
}

TEST_P(AttentionKinds, SegmentsChangeNothing) {
  const auto [kind, causal] = GetParam();
  const ModelOptions options = small_model(kind, causal);
  if (!options.takes_segments()) return;
  const Line line = random_line(131, kVocabulary, {40, 41, 97});
  const Trained whole = train_once(options, line, 1, 1);
  for (const int ranks : {1, 2, 3}) {
    for (const int segments : {2, 3, 7}) {
      EXPECT_LT(difference(train_once(options, line, ranks, segments), whole), 1e-11)
          << ranks << " ranks, " << segments << " segments";
    }
  }
}

TEST_P(AttentionKinds, RanksChangeNothingWithDropoutAndMaskedTokens) {
  const auto [kind, causal] = GetParam();
  const ModelOptions options = small_model(kind, causal);
  Line line = random_line(103, kVocabulary, {1, 40, 52, 53});
  for (std::size_t i = 0; i < line.targets.size(); ++i) {
    if (i % 6 != 0) line.targets[i] = -1;  // as where tokens are masked: few are predicted
    line.attended.push_back(i % 5 == 2 ? 0 : 1);
  }
  const Trained whole = train_once(options, line, 1, 1, 1, 0.2);
  for (const int ranks : {2, 3}) {
    EXPECT_LT(difference(train_once(options, line, ranks, 1, 2, 0.2), whole), 1e-11);
  }
}

TEST_P(AttentionKinds, RanksAndSegmentsChangeNothingInReversibleModels) {
  const auto [kind, causal] = GetParam();
  ModelOptions options = small_model(kind, causal);
  options.reversible = true;
  options.layers = 3;
  const Line line = random_line(131, kVocabulary, {40, 41, 97});
  const Trained whole = train_once(options, line, 1, 1, 1, 0.2);
  for (const int segments : {1, 2, 3}) {
    if (segments > 1 && !options.takes_segments()) continue;
    for (const int ranks : {1, 2, 3, 4}) {
      const Trained cut = train_once(options, line, ranks, segments, 1, 0.2);
      EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-12);
      EXPECT_LT(difference(cut, whole), 1e-11) << ranks << " ranks, " << segments << " segments";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, AttentionKinds, ::testing::ValuesIn(all_forms()),
                         [](const auto& info) { return describe(info.param); });

}  // namespace
}  // namespace longscan::test

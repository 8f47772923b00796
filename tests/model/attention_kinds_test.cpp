// Models with every kind of attention: their gradients are the slopes of the loss, tokens see what
// they should and nothing else, and what a model generates step by step is what it computes at
// once.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/attention_forms.h"
#include "tests/support/lines.h"
#include "tests/support/model_case.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 11;

class AttentionKindsOfModels : public ::testing::TestWithParam<AttentionForm> {
 protected:
  static ModelOptions options() { return small_model(GetParam(), kVocabulary); }
};

TEST_P(AttentionKindsOfModels, GradientIsTheCentralDifference) {
  Line line = random_line(37, kVocabulary, {9, 10, 25});
  for (const bool masked : {false, true}) {
    if (masked) {
      for (std::int64_t i = 0; i < line.size(); ++i) line.attended.push_back(i % 4 == 1 ? 0 : 1);
    }
    const OwnedShard shard(line, 0, line.size());
    expect_central_differences(options(), {&shard.shard, 1}, masked ? 0.3 : 0.0);
  }
}

// The loss of the tokens [begin, end) of a line, and all that they see beside them.
double loss_of(const ModelOptions& options, Line line, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = 0; i < line.size(); ++i) {
    if (i < begin || i >= end) line.targets[static_cast<std::size_t>(i)] = -1;
  }
  double loss = 0;
  with_model(options, [&](Device&, Parameters& parameters, Transformer& transformer) {
    const OwnedShard shard(line, 0, line.size());
    loss = transformer.evaluate(parameters.weights(), {&shard.shard, 1}).loss;
  });
  return loss;
}

// With other tokens in [begin, end).
Line changed(Line line, std::int64_t begin, std::int64_t end) {
  for (std::int64_t i = begin; i < end; ++i) {
    std::int32_t& token = line.tokens[static_cast<std::size_t>(i)];
    token = (token + 5) % kVocabulary;
  }
  return line;
}

TEST_P(AttentionKindsOfModels, TokensSeeTheirDocumentAndOnlyWhatPrecedesThemWhereCausal) {
  const Line line = random_line(130, kVocabulary, {40});
  const auto loss = [&](const Line& of, std::int64_t begin, std::int64_t end) {
    return loss_of(options(), of, begin, end);
  };
  const bool sees_others = GetParam().kind != AttentionKind::identity;
  // Of exponential maps the cuts of chunks, and so the roundings, may depend on what follows.
  const double before = loss(line, 40, 97);
  const double future = std::abs(loss(changed(line, 97, 130), 40, 97) - before);
  const double past = std::abs(loss(changed(line, 40, 97), 97, 130) - loss(line, 97, 130));
  const double elsewhere = std::abs(loss(changed(line, 0, 40), 40, 130) - loss(line, 40, 130));
  EXPECT_LT(elsewhere, 1e-11);
  if (sees_others) {
    EXPECT_GT(past, 1e-4);
  } else {
    EXPECT_LT(past, 1e-11);
  }
  if (sees_others && !GetParam().causal) {
    EXPECT_GT(future, 1e-4);
  } else {
    EXPECT_LT(future, 1e-11);
  }
}

TEST_P(AttentionKindsOfModels, StepByStepEqualsParallel) {
  if (!GetParam().causal) return;
  const Line line = random_line(48, kVocabulary, {});
  with_model(options(), [&](Device&, Parameters& parameters, Transformer& transformer) {
    const Weights& weights = parameters.weights();
    const auto values = [](const Tensor& logits) {
      return std::vector<double>(logits.as<double>(), logits.as<double>() + kVocabulary);
    };
    std::vector<std::vector<double>> parallel;
    for (std::int64_t end = 6; end <= line.size(); ++end) {
      const OwnedShard prefix(line, 0, end);
      parallel.push_back(values(transformer.prompt(weights, prefix.shard)));
    }
    const OwnedShard first(line, 0, 5);
    transformer.prompt(weights, first.shard);
    for (std::int64_t i = 5; i < line.size(); ++i) {
      const auto stepped = values(transformer.step(weights, line.tokens[i], i));
      for (std::size_t v = 0; v < stepped.size(); ++v) {
        EXPECT_NEAR(stepped[v], parallel[static_cast<std::size_t>(i - 5)][v], 1e-11);
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, AttentionKindsOfModels, ::testing::ValuesIn(all_attention_forms()),
                         [](const auto& info) { return name_of(info.param); });

TEST(KeyValueCache, HoldsMoreTokensThanItsFirstRoomAndForgetsThemWithTheNextPrompt) {
  const ModelOptions options = small_model({AttentionKind::softmax, true}, kVocabulary);
  const Line line = random_line(600, kVocabulary, {});
  with_model(options, [&](Device&, Parameters& parameters, Transformer& transformer) {
    const Weights& weights = parameters.weights();
    const auto last_logit = [&](std::int64_t prompt) {
      const OwnedShard prefix(line, 0, prompt);
      double logit = transformer.prompt(weights, prefix.shard).as<double>()[3];
      for (std::int64_t i = prompt; i < line.size(); ++i) {
        logit = transformer.step(weights, line.tokens[i], i).as<double>()[3];
      }
      return logit;
    };
    const double expected = last_logit(600);
    EXPECT_NEAR(last_logit(2), expected, 1e-11);
    EXPECT_NEAR(last_logit(550), expected, 1e-11);
  });
}

TEST(Transformer, RefusesSegmentsWhereALayerDoesMoreThanSumUpWhatCameBefore) {
  const ModelOptions options = small_model({AttentionKind::softmax, true}, kVocabulary);
  const Line line = random_line(20, kVocabulary, {});
  with_model(options, [&](Device&, Parameters& parameters, Transformer& transformer) {
    const std::vector<OwnedShard> halves = [&] {
      std::vector<OwnedShard> parts;
      parts.emplace_back(line, 0, 10);
      parts.emplace_back(line, 10, 20);
      return parts;
    }();
    const std::vector<Shard> segments{halves[0].shard, halves[1].shard};
    EXPECT_THROW(transformer.evaluate(parameters.weights(), segments), Error);
  });
}

}  // namespace
}  // namespace longscan::test

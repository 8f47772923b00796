// The model against finite differences, its causality, and generation against the parallel forward.
#include "model/transformer.h"

#include <gtest/gtest.h>

#include "tests/support/lines.h"
#include "tests/support/model_case.h"

namespace longscan {
namespace {

using test::expect_central_differences;
using test::Line;
using test::OwnedShard;
using test::random_line;
using test::with_model;

constexpr std::int32_t kVocabulary = 11;

ModelOptions tiny_model() {
  return {.vocabulary = kVocabulary,
          .width = 12,
          .layers = 2,
          .heads = 2,
          .hidden = 20,
          .longest_document = 64,
          .dtype = DType::f64};
}

std::vector<ModelOptions> all_kinds() {
  std::vector<ModelOptions> kinds;
  for (const Positions positions :
       {Positions::sinusoidal, Positions::learned, Positions::rotary, Positions::none}) {
    for (const MlpKind mlp : {MlpKind::gelu, MlpKind::relu, MlpKind::swiglu}) {
      ModelOptions options = tiny_model();
      options.positions = positions;
      options.mlp = mlp;
      options.norm = positions == Positions::none ? NormKind::rms_norm : NormKind::layer_norm;
      options.tied_embedding = mlp == MlpKind::gelu;
      kinds.push_back(options);
    }
  }
  return kinds;
}

TEST(Transformer, GradientIsTheCentralDifference) {
  const Line line = random_line(37, kVocabulary, {9, 10, 25});
  const OwnedShard shard(line, 0, line.size());
  const std::span<const Shard> segments{&shard.shard, 1};
  for (const ModelOptions& options : all_kinds()) {
    for (const double dropout : {0.0, 0.3}) {
      expect_central_differences(options, segments, dropout);
    }
  }
}

TEST(Transformer, TokensDoNotSeeWhatFollowsThem) {
  const Line line = random_line(130, kVocabulary, {40});
  for (const ModelOptions& options : all_kinds()) {
    ModelOptions long_enough = options;
    long_enough.longest_document = 130;
    with_model(long_enough, [&](Device&, Parameters& parameters, Transformer& transformer) {
      Line changed = line;
      const std::int64_t cut = 97;
      for (std::int64_t i = cut; i < line.size(); ++i) {
        changed.tokens[i] = (line.tokens[i] + 5) % kVocabulary;
      }
      // Only losses before the cut count, so they must not change by one bit.
      Line before = line;
      for (Line* l : {&changed, &before}) {
        std::fill(l->targets.begin() + cut, l->targets.end(), -1);
      }
      const OwnedShard a(before, 0, line.size());
      const OwnedShard b(changed, 0, line.size());
      EXPECT_EQ(transformer.evaluate(parameters.weights(), {&a.shard, 1}).loss,
                transformer.evaluate(parameters.weights(), {&b.shard, 1}).loss);
    });
  }
}

TEST(Transformer, DocumentsDoNotSeeEachOther) {
  // The losses of two documents in one line are those of each alone.
  const Line line = random_line(90, kVocabulary, {33});
  with_model(tiny_model(), [&](Device&, Parameters& parameters, Transformer& transformer) {
    const auto loss = [&](std::int64_t begin, std::int64_t end) {
      const OwnedShard shard(line, begin, end);
      return transformer.evaluate(parameters.weights(), {&shard.shard, 1}).loss;
    };
    EXPECT_NEAR(loss(0, 33) + loss(33, 90), loss(0, 90), 1e-11);
  });
}

TEST(Transformer, StepByStepEqualsParallel) {
  const Line line = random_line(48, kVocabulary, {});
  for (const ModelOptions& options : all_kinds()) {
    with_model(options, [&](Device&, Parameters& parameters, Transformer& transformer) {
      const Weights& weights = parameters.weights();
      const OwnedShard first(line, 0, 5);
      transformer.prompt(weights, first.shard);
      for (std::int64_t i = 5; i < line.size(); ++i) {
        const Tensor stepped = transformer.step(weights, line.tokens[i], i);
        const std::vector<double> logits(stepped.as<double>(), stepped.as<double>() + kVocabulary);
        if (i % 7 != 0) continue;
        // The parallel forward of the whole prefix; it overwrites the states, which are put back
        // afterwards.
        std::vector<std::vector<double>> states;
        for (const Tensor& state : transformer.states()) {
          states.emplace_back(state.as<double>(), state.as<double>() + state.size());
        }
        const OwnedShard prefix(line, 0, i + 1);
        const Tensor parallel = transformer.prompt(weights, prefix.shard);
        for (std::int32_t v = 0; v < kVocabulary; ++v) {
          EXPECT_NEAR(logits[v], parallel.as<double>()[v], 1e-11);
        }
        for (std::size_t layer = 0; layer < states.size(); ++layer) {
          const Tensor& state = transformer.states()[layer];
          for (std::int64_t e = 0; e < state.size(); ++e) {
            EXPECT_NEAR(state.as<double>()[e], states[layer][e], 1e-11);
          }
          std::copy(states[layer].begin(), states[layer].end(), state.as<double>());
        }
      }
    });
  }
}

TEST(Transformer, AnEmptyLineHasNoLoss) {
  with_model(tiny_model(), [&](Device& device, Parameters& parameters, Transformer& transformer) {
    Parameters gradient(tiny_model(), device);
    const Shard empty;
    const LossTotals totals =
        transformer.train(parameters.weights(), gradient.weights(), {&empty, 1}, {});
    EXPECT_EQ(totals.tokens, 0);
    EXPECT_EQ(totals.loss, 0);
  });
}

}  // namespace
}  // namespace longscan

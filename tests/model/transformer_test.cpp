// The model against finite differences, its causality, and generation against the parallel forward.
#include "model/transformer.h"

#include <gtest/gtest.h>

#include "tests/support/device_numbers.h"
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
  for (ModelOptions options : {kinds[2], kinds[6]}) {
    options.reversible = true;
    options.layers = 3;
    kinds.push_back(options);
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

// Bytes of activations behind two training steps of two segments, and an evaluation.
std::int64_t activation_bytes(const ModelOptions& options) {
  const Line line = random_line(6000, kVocabulary, {2500});
  std::int64_t bytes = 0;
  with_model(options, [&](Device& device, Parameters& parameters, Transformer& transformer) {
    transformer.draw_features(1, 0);
    Parameters gradient(options, device);
    const test::DeviceNumbers<double> totals(device, {0, 0, 0});
    const test::RankLine mine = test::shards_of(line, 2, 1, 0);
    for (int step = 0; step < 2; ++step) {
      transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), mine.shards,
                        {.rate = 0.1});
    }
    transformer.evaluate(parameters.weights(), mine.shards);
    bytes = transformer.activation_bytes();
  });
  return bytes;
}

TEST(Transformer, MemoryOfAReversibleModelDoesNotGrowWithItsDepth) {
  for (const AttentionKind kind : {AttentionKind::elu1, AttentionKind::favor_softmax}) {
    ModelOptions options = tiny_model();
    options.attention = {.kind = kind, .features = 8};
    const auto bytes = [&](std::int64_t layers, bool reversible) {
      options.layers = layers;
      options.reversible = reversible;
      return activation_bytes(options);
    };
    EXPECT_EQ(bytes(8, true), bytes(2, true));
    EXPECT_LT(bytes(2, true), bytes(2, false));
    EXPECT_GT(bytes(8, false), 2 * bytes(2, false)) << "the test sees no activations";
  }
}

TEST(Transformer, AnEmptyLineHasNoLoss) {
  with_model(tiny_model(), [&](Device& device, Parameters& parameters, Transformer& transformer) {
    Parameters gradient(tiny_model(), device);
    const test::DeviceNumbers<double> totals(device, {1, 2, 3});
    const Shard empty;
    transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), {&empty, 1}, {});
    EXPECT_EQ(totals.numbers(), (std::vector<double>{1, 2, 3}));
  });
}

TEST(Transformer, TotalsOfLinesAddUp) {
  with_model(tiny_model(), [&](Device& device, Parameters& parameters, Transformer& transformer) {
    Parameters gradient(tiny_model(), device);
    const test::DeviceNumbers<double> totals(device, {0, 0, 0});
    LossTotals expected;
    for (const std::uint64_t seed : {1, 2, 3}) {
      const Line line = random_line(40, kVocabulary, {17}, seed);
      const test::RankLine mine = test::shards_of(line, 2, 1, 0);
      transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), mine.shards, {});
      const LossTotals evaluated = transformer.evaluate(parameters.weights(), mine.shards);
      expected.loss += evaluated.loss;
      expected.correct += evaluated.correct;
      expected.tokens += evaluated.tokens;
    }
    EXPECT_NEAR(totals.numbers()[0], expected.loss, 1e-12 * expected.loss);
    EXPECT_EQ(totals.numbers()[1], expected.correct);
    EXPECT_EQ(totals.numbers()[2], expected.tokens);
  });
}

}  // namespace
}  // namespace longscan

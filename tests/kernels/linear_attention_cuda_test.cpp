// Linear attention on the GPU against its O(n^2) definition and the CPU in double, for every
// feature map, causal and not, with masked keys and without.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/linear_attention_truth.h"

namespace longscan::test {
namespace {

using Shape = AttentionShape;
using Operands = AttentionOperands;

class LinearAttentionOnCuda : public OnFirstGpu {};

TEST_F(LinearAttentionOnCuda, IsTheDefinition) {
  // Documents on, before and behind the borders of chunks and pieces, of one token; rows with
  // 16-byte accesses and without.
  for (const Shape& shape : {Shape{1, 1, 1, 1, {}}, Shape{43, 2, 16, 33, {0, 1, 2, 42}},
                             Shape{300, 1, 24, 8, {63, 64, 65, 128, 191, 255}}}) {
    for (const AttentionForm& form : all_forms()) {
      for (const Precision& precision : {kSingle, kHalf}) {
        expect_truth(device(), precision, Operands(shape, form));
      }
    }
  }
}

TEST_F(LinearAttentionOnCuda, IsTheDefinitionAtEverySizeOfHeads) {
  for (const Shape& shape : {Shape{70, 1, 64, 40, {50}}, Shape{140, 1, 120, 128, {}}}) {
    for (const AttentionForm& form : all_forms()) {
      if (form.masked || form.kind == FeatureKind::relu) continue;
      expect_truth(device(), kHalf, Operands(shape, form, 0.5));
      if (form.kind == FeatureKind::favor_hyperbolic) continue;
      expect_truth(device(), kSingle, Operands(shape, form, 0.5));
    }
  }
}

TEST_F(LinearAttentionOnCuda, IsTheDefinitionWhereTheProjectionDoesNotStayInSharedMemory) {
  for (const bool causal : {true, false}) {
    for (const FeatureKind kind : {FeatureKind::favor_softmax, FeatureKind::favor_relu}) {
      const Operands operands({70, 1, 64, 64, {}}, {.kind = kind, .causal = causal}, 0.5, 256);
      expect_truth(device(), kSingle, operands);
    }
  }
}

TEST_F(LinearAttentionOnCuda, CheckpointsOfForwardAreWhatBackwardBeginsFrom) {
  // Documents on, before and behind checkpoints.
  for (const AttentionForm& form : all_forms()) {
    if (!form.causal || form.kind == FeatureKind::relu) continue;
    const Operands operands({1300, 1, 8, 5, {500, 511, 512, 1025}}, form);
    expect_truth(device(), kSingle, operands, true);
    if (!form.masked) expect_truth(device(), kHalf, operands, true);
  }
}

TEST_F(LinearAttentionOnCuda, PiecesMayHaveSeveralCheckpoints) {
  // Of so many heads, that few pieces of long lines fill the GPU.
  for (const FeatureKind kind : {FeatureKind::elu1, FeatureKind::favor_softmax}) {
    for (const std::vector<std::int64_t>& starts : {{}, std::vector<std::int64_t>{700, 1600}}) {
      const Operands operands({1700, 8, 4, 3, starts}, {.kind = kind});
      expect_truth(device(), kSingle, operands, true);
      expect_truth(device(), kHalf, operands, true);
    }
  }
  expect_truth(device(), kSingle, Operands({1100, 8, 66, 4, {600}}), true);  // chunks of 32 tokens
}

TEST_F(LinearAttentionOnCuda, CheckpointsAreNotFoundAnew) {
  const Operands operands = rounded(Operands({700, 1, 4, 4, {}}), DType::f32);
  AttentionOnCuda gpu(device(), DType::f32, operands);
  gpu.leaves_checkpoints = true;
  gpu.forward();
  gpu.backward();
  const std::vector<double> was = gpu.d_query();
  gpu.spoil_checkpoint(1);
  gpu.backward();
  const std::vector<double> is = gpu.d_query();
  for (std::int64_t i = 0; i < 512 * 4; ++i) EXPECT_EQ(is[i], was[i]);
  EXPECT_NE(is[512 * 4], was[512 * 4]);
}

std::vector<double> both(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

// Two shards of a line, each with what the other one's tokens add.
void expect_two_shards_are_one(Device& device, const Operands& exact, std::int64_t cut) {
  const Operands line = rounded(exact, DType::f32);
  SCOPED_TRACE(about(line.shape, line.form) + ", cut at " + std::to_string(cut));
  const auto& starts = line.shape.starts;
  const bool crosses = std::find(starts.begin(), starts.end(), cut) == starts.end();
  const bool bidirectional = !line.form.causal;
  using State = std::vector<double>;
  AttentionTensors<double> whole(line);
  whole.run();
  AttentionOnCuda first(device, DType::f32, line.part(0, cut));
  AttentionOnCuda second(device, DType::f32, line.part(cut, line.shape.tokens));
  first.leaves_checkpoints = second.leaves_checkpoints = true;
  const State before = crosses ? first.sum(ShardSide::back) : State{};
  const State behind = crosses && bidirectional ? second.sum(ShardSide::front) : State{};
  first.forward({}, behind);
  second.forward(before, {});
  const State d_before = crosses && bidirectional ? first.gradient_sum(ShardSide::back) : State{};
  const State d_behind = crosses ? second.gradient_sum(ShardSide::front) : State{};
  first.backward({.behind = behind, .gradients_behind = d_behind});
  second.backward({.before = before, .gradients_before = d_before});
  const double tolerance = 1e-4;  // larger vectors have larger exponents, less exact ones
  EXPECT_LT(worst_relative(both(first.out(), second.out()), whole.get(whole.out)), tolerance);
  EXPECT_LT(gradient_error(both(first.d_query(), second.d_query()), whole.get(whole.d_query)),
            tolerance);
  EXPECT_LT(gradient_error(both(first.d_key(), second.d_key()), whole.get(whole.d_key)), tolerance);
  EXPECT_LT(gradient_error(both(first.d_value(), second.d_value()), whole.get(whole.d_value)),
            tolerance);
}

TEST_F(LinearAttentionOnCuda, TwoShardsAreOne) {
  for (const AttentionForm& form : all_forms()) {
    const Operands line({133, 2, 8, 5, {20, 21, 90, 132}}, form, form.masked ? 3 : 1);
    for (const std::int64_t cut : {0, 20, 22, 133}) expect_two_shards_are_one(device(), line, cut);
    // Shards of several pieces, and documents over several of these.
    if (form.masked) continue;
    expect_two_shards_are_one(device(), Operands({700, 1, 8, 5, {}}, form), 310);
    expect_two_shards_are_one(device(), Operands({640, 1, 8, 5, {130, 500}}, form), 384);
  }
}

TEST_F(LinearAttentionOnCuda, SumsAreThoseOfTheCpu) {
  for (const AttentionForm& form : all_forms()) {
    for (const std::vector<std::int64_t>& starts : {{}, std::vector<std::int64_t>{140, 300}}) {
      const Operands operands = rounded(Operands({333, 2, 6, 4, starts}, form), DType::f32);
      AttentionTensors<double> truth(operands);
      AttentionOnCuda gpu(device(), DType::f32, operands);
      truth.forward();
      gpu.forward();
      for (const ShardSide side : {ShardSide::front, ShardSide::back}) {
        const std::string what = about(operands.shape, form);
        EXPECT_LT(worst_relative(gpu.sum(side), truth.get(truth.sum(side))), 1e-5) << what;
        EXPECT_LT(worst_relative(gpu.gradient_sum(side), truth.get(truth.gradient_sum(side))), 2e-5)
            << what;
      }
    }
  }
}

TEST_F(LinearAttentionOnCuda, OfNoTokensTheSumIsEmpty) {
  for (const AttentionForm& form : all_forms()) {
    AttentionOnCuda gpu(device(), DType::bf16, Operands({0, 2, 4, 4, {}}, form));
    const bool exponential = gpu.input.feature_map.is_exponential();
    const std::vector<double> state = gpu.sum(ShardSide::back);
    for (std::size_t i = 0; i < state.size(); ++i) {
      EXPECT_EQ(state[i], exponential && i % 6 == 5 ? -INFINITY : 0);
    }
    gpu.forward();
    gpu.backward();
  }
}

TEST_F(LinearAttentionOnCuda, StepsEqualTheParallelForm) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.causal) continue;
    for (const Precision& precision : {kSingle, kHalf}) {
      const Operands operands = rounded(Operands({20, 2, 12, 35, {}}, form, 2), precision.dtype);
      AttentionOnCuda gpu(device(), precision.dtype, operands);
      EXPECT_LT(worst_relative(gpu.step_by_step(), operands.definition()), precision.outputs)
          << describe(form);
    }
  }
}

TEST_F(LinearAttentionOnCuda, TokensThatSeeNoKeyGetZeros) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.masked) continue;
    Operands operands({70, 1, 6, 4, {3, 60}}, form);
    std::fill_n(operands.attended.begin(), 3, 0);       // a document without a key
    std::fill_n(operands.attended.begin() + 60, 5, 0);  // the next one begins with such tokens
    expect_truth(device(), kSingle, operands);
    AttentionOnCuda gpu(device(), DType::f32, rounded(operands, DType::f32));
    gpu.forward();
    gpu.backward();
    for (const auto& numbers : {gpu.out(), gpu.d_query(), gpu.d_key(), gpu.d_value()}) {
      for (std::int64_t i = 0; i < 3 * 4; ++i) EXPECT_EQ(numbers[i], 0) << describe(form);
    }
  }
}

TEST_F(LinearAttentionOnCuda, RefusesWhatItCannotHold) {
  const auto forward = [&](DType dtype, const Shape& shape, const AttentionForm& form) {
    AttentionOnCuda gpu(device(), dtype, Operands(shape, form));
    gpu.forward();
  };
  expect_error(ErrorKind::usage, "no heads of 129 numbers", [&] {
    forward(DType::f32, {2, 1, 129, 4, {}}, {});
  });
  expect_error(ErrorKind::internal, "f32 and bf16", [&] {
    AttentionTensors<double> tensors(Operands({1, 1, 4, 4, {}}));
    device().run(LinearAttention{
        .out = tensors.out, .normalizer = tensors.normalizer, .input = tensors.input});
  });
}

}  // namespace
}  // namespace longscan::test

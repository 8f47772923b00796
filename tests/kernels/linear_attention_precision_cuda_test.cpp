// How exact linear attention on the GPU stays: over long lines, with extreme keys, and with values
// that have a mean or that nobody attends to.
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "tests/support/linear_attention_truth.h"

namespace longscan::test {
namespace {

using Shape = AttentionShape;
using Operands = AttentionOperands;

class LinearAttentionPrecisionOnCuda : public OnFirstGpu {};

TEST_F(LinearAttentionPrecisionOnCuda, FutureKeysOfAnySizeChangeNoEarlierOutput) {
  const Shape shape{150, 1, 16, 8, {}};
  for (const AttentionForm& form : all_forms()) {
    if (!form.causal || form.masked) continue;
    const Operands operands = rounded(Operands(shape, form), DType::f32);
    AttentionOnCuda before(device(), DType::f32, operands);
    before.forward();
    for (const std::int64_t future : {63, 100, 128}) {
      for (const double factor : {2.0, 1000.0}) {
        Operands changed = operands;
        for (std::int64_t i = 0; i < shape.dim; ++i) {
          // Along a row of the projection a feature is the largest there is.
          changed.key[future * shape.dim + i] = factor * operands.projection[3 * shape.dim + i];
          changed.value[future * shape.value_dim + i % shape.value_dim] = 1e6;
        }
        AttentionOnCuda after(device(), DType::f32, rounded(changed, DType::f32));
        after.forward();
        const std::vector<double> was = before.out(), is = after.out();
        for (std::int64_t i = 0; i < future * shape.value_dim; ++i) {
          ASSERT_NEAR(is[i], was[i], 1e-5) << describe(form) << ", key " << future;
        }
      }
    }
  }
}

TEST_F(LinearAttentionPrecisionOnCuda, LargeKeysAmongSmallOnesAreExact) {
  // Within one chunk exponents rise by hundreds, and queries before that see the large keys alone.
  for (const FeatureKind kind : {FeatureKind::favor_softmax, FeatureKind::favor_hyperbolic}) {
    for (const bool causal : {true, false}) {
      Operands exact({150, 1, 16, 8, {}}, {.kind = kind, .causal = causal});
      for (std::int64_t token = 0; token < 40; ++token) {
        for (int i = 0; i < 16; ++i) exact.key[token * 16 + i] *= token % 7 == 3 ? 1 : 15;
      }
      for (int i = 0; i < 16; ++i) exact.key[50 * 16 + i] *= 30;
      const Operands operands = rounded(exact, DType::f32);
      AttentionTensors<double> truth(operands);
      truth.run();
      AttentionOnCuda gpu(device(), DType::f32, operands);
      gpu.forward();
      gpu.backward();
      SCOPED_TRACE(about(operands.shape, operands.form));
      EXPECT_LT(worst_relative(gpu.out(), operands.definition()), 1e-4);
      EXPECT_LT(worst_relative(gpu.d_query(), truth.get(truth.d_query)), 1e-3);
      EXPECT_LT(worst_relative(gpu.d_key(), truth.get(truth.d_key)), 1e-3);
      EXPECT_LT(worst_relative(gpu.d_value(), truth.get(truth.d_value)), 1e-3);
    }
  }
}

// The root of the mean square of the differences, relative to that of the truth.
double mean_error(const std::vector<double>& got, const std::vector<double>& truth) {
  double square = 0, error = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    square += truth[i] * truth[i];
    error += (got[i] - truth[i]) * (got[i] - truth[i]);
  }
  return std::sqrt(error / square);
}

TEST_F(LinearAttentionPrecisionOnCuda, ErrorInSinglePrecisionDoesNotGrowWithTheLine) {
  const Operands operands = rounded(Operands({30'000, 1, 16, 16, {}}), DType::f32);
  AttentionTensors<double> truth(operands);
  truth.run();
  AttentionOnCuda gpu(device(), DType::f32, operands);
  gpu.leaves_checkpoints = true;
  gpu.forward();
  gpu.backward();
  EXPECT_LT(mean_error(gpu.out(), truth.get(truth.out)), 1e-6);
  EXPECT_LT(mean_error(gpu.d_query(), truth.get(truth.d_query)), 2e-6);
  EXPECT_LT(mean_error(gpu.d_key(), truth.get(truth.d_key)), 2e-6);
  EXPECT_LT(mean_error(gpu.d_value(), truth.get(truth.d_value)), 2e-6);
}

TEST_F(LinearAttentionPrecisionOnCuda, ValuesThatNobodyAttendsToSpoilNoGradient) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.masked) continue;
    Operands exact({150, 1, 8, 8, {}}, form);
    for (std::int64_t i = 0; i < 150 * 8; ++i) {
      if (exact.attended[i / 8] == 0) exact.value[i] *= 1e4;
    }
    expect_truth(device(), kSingle, exact);
    expect_truth(device(), kHalf, exact);
  }
}

TEST_F(LinearAttentionPrecisionOnCuda,
       ErrorInHalfPrecisionGrowsNeitherWithTheLineNorWithValuesMean) {
  for (const FeatureKind kind : {FeatureKind::elu1, FeatureKind::favor_relu,
                                 FeatureKind::favor_softmax, FeatureKind::favor_hyperbolic}) {
    for (const auto& [tokens, mean] : {std::pair{200, 0.0}, {1500, 0.0}, {1500, 3.0}}) {
      Operands exact({tokens, 1, 64, 64, {}}, {.kind = kind}, 0.7, 64);
      for (double& number : exact.value) number += mean;
      const Operands operands = rounded(exact, DType::bf16);
      AttentionTensors<double> truth(operands);
      truth.run();
      AttentionOnCuda gpu(device(), DType::bf16, operands);
      gpu.forward();
      gpu.backward();
      SCOPED_TRACE(about(operands.shape, operands.form) + ", mean " + std::to_string(mean));
      // Without what rounding the result itself makes of it.
      const std::vector<double> out = truth.get(truth.out);
      std::vector<double> nearest = out;
      for (double& number : nearest)
        number = static_cast<float>(Bfloat16(static_cast<float>(number)));
      EXPECT_LT(mean_error(gpu.out(), out), std::hypot(1.5e-3, mean_error(nearest, out)));
      EXPECT_LT(mean_error(gpu.d_query(), truth.get(truth.d_query)), 5e-3);
      EXPECT_LT(mean_error(gpu.d_key(), truth.get(truth.d_key)), 5e-3);
      EXPECT_LT(mean_error(gpu.d_value(), truth.get(truth.d_value)), 5e-3);
    }
  }
}

}  // namespace
}  // namespace longscan::test

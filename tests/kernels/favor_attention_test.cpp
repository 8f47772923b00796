// The stabiliser of FAVOR+: neither large keys nor those of the future spoil anything.
#include <gtest/gtest.h>

#include "tests/support/linear_attention_case.h"

namespace longscan::test {
namespace {

using Operands = AttentionOperands;
using Tensors = AttentionTensors<float>;

constexpr FeatureKind kExponential[] = {FeatureKind::favor_softmax, FeatureKind::favor_hyperbolic};

void expect_finite(const Tensors& tensors) {
  for (const Tensor* tensor : {&tensors.out, &tensors.d_query, &tensors.d_key, &tensors.d_value}) {
    for (const double value : Tensors::get(*tensor)) ASSERT_TRUE(std::isfinite(value));
  }
}

// Scales every vector of `dim` numbers to this norm.
void set_norms(std::vector<double>& numbers, std::int64_t dim, double norm) {
  for (std::size_t begin = 0; begin < numbers.size(); begin += static_cast<std::size_t>(dim)) {
    double square = 0;
    for (std::int64_t i = 0; i < dim; ++i) square += numbers[begin + i] * numbers[begin + i];
    for (std::int64_t i = 0; i < dim; ++i) numbers[begin + i] *= norm / std::sqrt(square);
  }
}

TEST(FavorAttention, FutureKeysOfAnySizeChangeNoEarlierOutput) {
  const AttentionShape shape{130, 2, 16, 8, {}};
  for (const FeatureKind kind : {kExponential[0], kExponential[1], FeatureKind::favor_relu}) {
    const Operands operands(shape, {.kind = kind});
    Tensors before(operands);
    before.forward();
    // The last token of a chunk, one in its middle, the first of one.
    for (const std::int64_t future : {63, 100, 128}) {
      for (int change = 0; change < 4; ++change) {
        Operands changed = operands;
        for (std::int64_t i = 0; i < shape.heads * shape.dim; ++i) {
          double& key = changed.key[future * shape.heads * shape.dim + i];
          const double aligned = operands.projection[3 * shape.dim + i % shape.dim];
          key = change == 0   ? 2 * key
                : change == 1 ? 100 * key
                : change == 2 ? 2 * aligned  // x~ is the row itself: the largest feature there is
                              : 1000 * aligned;
        }
        Tensors after(changed);
        after.forward();
        for (std::int64_t i = 0; i < future * shape.heads * shape.value_dim; ++i) {
          ASSERT_NEAR(after.out.as<float>()[i], before.out.as<float>()[i], 1e-5)
              << "change " << change << " of key " << future;
        }
      }
    }
  }
}

TEST(FavorAttention, KeysOfNorm60GiveFiniteOutputsAndTheirGradients) {
  for (const FeatureKind kind : kExponential) {
    for (const bool causal : {true, false}) {
      for (const double query_norm : {1.0, 60.0}) {
        Operands operands({150, 2, 16, 8, {90}}, {.kind = kind, .causal = causal});
        set_norms(operands.key, 16, 60);
        set_norms(operands.query, 16, query_norm);
        Tensors tensors(operands);
        tensors.run();
        expect_finite(tensors);
        EXPECT_LT(worst_relative(tensors.get(tensors.out), operands.definition()), 2e-3);
        AttentionTensors<double> exact(operands);
        exact.run();
        EXPECT_LT(worst_relative(tensors.get(tensors.d_value), exact.get(exact.d_value)), 2e-3);
        EXPECT_LT(worst_relative(tensors.get(tensors.d_key), exact.get(exact.d_key)), 2e-3);
        EXPECT_LT(worst_relative(tensors.get(tensors.d_query), exact.get(exact.d_query)), 2e-3);
      }
    }
  }
}

TEST(FavorAttention, OneLargeKeyAmongSmallOnesIsExact) {
  // Within one chunk exponents rise by hundreds and fall again.
  for (const FeatureKind kind : kExponential) {
    for (const bool causal : {true, false}) {
      Operands operands({80, 1, 16, 8, {}}, {.kind = kind, .causal = causal});
      for (std::int64_t token = 0; token < 40; ++token) {
        for (int i = 0; i < 16; ++i) operands.key[token * 16 + i] *= token % 7 == 0 ? 1 : 15;
      }
      for (int i = 0; i < 16; ++i) operands.key[50 * 16 + i] *= 30;
      Tensors tensors(operands);
      tensors.run();
      AttentionTensors<double> exact(operands);
      exact.run();
      EXPECT_LT(worst_relative(tensors.get(tensors.out), operands.definition()), 1e-4);
      EXPECT_LT(worst_relative(tensors.get(tensors.d_key), exact.get(exact.d_key)), 1e-3);
      EXPECT_LT(worst_relative(tensors.get(tensors.d_query), exact.get(exact.d_query)), 1e-3);
    }
  }
}

TEST(FavorAttention, ACommonShiftOfAllExponentsChangesNothing) {
  for (const FeatureKind kind : kExponential) {
    for (const double shift : {-300.0, -1.0, 80.0, 400.0}) {
      const Operands line({90, 2, 8, 5, {}}, {.kind = kind});
      // Queries: a multiple of every feature. Keys: that of the state and of what follows it.
      Tensors first(line.part(0, 40));
      const Tensor state = first.sum(ShardSide::back);
      Tensors second(line.part(40, 90));
      second.input.key_mask = Tensor::dense(second.attended.data(), DType::u8, {50});
      std::fill(second.attended.begin(), second.attended.end(), 0);  // only the state counts
      second.forward(state);
      const std::vector<double> before = second.get(second.out);
      for (std::int64_t i = state.shape[2] - 1; i < state.size(); i += state.shape[2]) {
        state.as<float>()[i] += static_cast<float>(shift);
      }
      second.forward(state);
      EXPECT_LT(worst_relative(second.get(second.out), before), 1e-4) << shift;
    }
  }
}

TEST(FavorAttention, RowsOfTheAttentionMatrixArePositiveAndSumToOne) {
  for (const AttentionForm& form : all_forms()) {
    const std::int64_t tokens = 70;
    Operands operands({tokens, 1, 8, tokens, {20}}, form, 3);
    for (std::int64_t i = 0; i < tokens * tokens; ++i) {
      operands.value[i] = i / tokens == i % tokens ? 1 : 0;  // one-hot positions
    }
    AttentionTensors<float> tensors(operands);
    tensors.forward();
    for (std::int64_t i = 0; i < tokens; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < tokens; ++j) {
        const double weight = tensors.out.as<float>()[i * tokens + j];
        EXPECT_GE(weight, 0);
        sum += weight;
      }
      EXPECT_NEAR(sum, 1, 1e-5) << describe(form);
    }
  }
}

}  // namespace
}  // namespace longscan::test

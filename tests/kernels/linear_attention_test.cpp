// Linear attention against its O(n^2) definition in double, its gradients against central
// differences, for every feature map, causal and not, with masked keys and without.
#include "kernels/linear_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/support/linear_attention_case.h"
#include "tests/support/reference.h"

namespace longscan::test {
namespace {

using Shape = AttentionShape;
using Operands = AttentionOperands;

// Sizes around the chunk and the vector, features unlike value_dim, documents of one token and on
// chunk borders.
const std::vector<Shape> kShapes = {
    {1, 1, 1, 1, {}},
    {33, 2, 5, 3, {}},
    {43, 3, 16, 33, {0, 1, 2, 42}},
    {64, 1, 33, 16, {}},
    {65, 2, 17, 8, {64}},
    {197, 3, 24, 43, {63, 64, 65, 127, 128, 150, 151, 196}},
};
// Long enough that its heads are cut in parts.
const Shape kLong{600, 1, 9, 6, {511, 512}};

template <class T>
void expect_definition(const Shape& shape, double tolerance) {
  for (const AttentionForm& form : all_forms()) {
    const Operands operands(shape, form);
    const std::vector<double> truth = operands.definition();
    for (const int threads : {1, 2, 3}) {
      AttentionTensors<T> tensors(operands, threads);
      tensors.forward();
      EXPECT_LT(worst_relative(tensors.get(tensors.out), truth), tolerance)
          << shape.tokens << " tokens, " << describe(form);
    }
  }
}

TEST(LinearAttention, IsTheDefinitionInDouble) {
  for (const Shape& shape : kShapes) expect_definition<double>(shape, 1e-12);
  expect_definition<double>(kLong, 1e-12);
}
TEST(LinearAttention, IsTheDefinitionInFloat) {
  for (const Shape& shape : kShapes) expect_definition<float>(shape, 1e-5);
}

TEST(LinearAttention, AveragesTheValuesOfEqualKeys) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.causal || form.masked) continue;
    Operands operands({3, 1, 4, 1, {}}, form);
    std::fill(operands.query.begin(), operands.query.end(), 1);
    std::fill(operands.key.begin(), operands.key.end(), 1);
    operands.value = {1, 0, 0};
    AttentionTensors<float> tensors(operands);
    tensors.forward();
    EXPECT_NEAR(tensors.out.as<float>()[0], 1, 1e-6) << describe(form);
    EXPECT_NEAR(tensors.out.as<float>()[1], 0.5, 1e-6) << describe(form);
    EXPECT_NEAR(tensors.out.as<float>()[2], 1.0 / 3, 1e-6) << describe(form);
  }
}

TEST(LinearAttention, KeysFarBelowZeroStillHaveAWeight) {
  // elu(x) + 1 computed as such would be 0 / 0 here.
  Operands operands({5, 1, 8, 2, {}});
  std::fill(operands.key.begin(), operands.key.end(), -40);
  AttentionTensors<float> tensors(operands);
  tensors.forward();
  EXPECT_LT(worst_relative(tensors.get(tensors.out), operands.definition()), 1e-5);
}

TEST(LinearAttention, AveragesWhereAllFeaturesAreTiny) {
  // e^-60 e^-60 is no fp32 number; the weights are then equal, as those of equal keys.
  Operands operands({3, 1, 4, 1, {}});
  std::fill(operands.query.begin(), operands.query.end(), -60);
  std::fill(operands.key.begin(), operands.key.end(), -60);
  operands.value = {1, 0, 0};
  AttentionTensors<float> tensors(operands);
  tensors.run();
  EXPECT_NEAR(tensors.out.as<float>()[2], 1.0 / 3, 1e-6);
  for (const double gradient : tensors.get(tensors.d_value)) EXPECT_TRUE(std::isfinite(gradient));
}

TEST(LinearAttention, NanIsNotSwallowed) {
  for (const bool in_query : {false, true}) {
    Operands operands({3, 1, 16, 2, {}});
    (in_query ? operands.query : operands.key)[17] = NAN;  // of token 1
    AttentionTensors<float> tensors(operands);
    tensors.forward();
    EXPECT_FALSE(std::isnan(tensors.out.as<float>()[0]));
    EXPECT_TRUE(std::isnan(tensors.out.as<float>()[2]));
  }
}

TEST(LinearAttention, MaskedKeysMeanNothing) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.masked) continue;
    const Shape shape{70, 2, 6, 4, {30}};
    const Operands operands(shape, form);
    AttentionTensors<float> before(operands);
    before.run();
    Operands changed = operands;
    for (std::int64_t i = 0; i < shape.tokens; ++i) {
      if (operands.attended[i] != 0) continue;
      std::fill_n(&changed.value[i * shape.heads * shape.value_dim], shape.heads * shape.value_dim,
                  1e9);
      std::fill_n(&changed.key[i * shape.heads * shape.dim], shape.heads * shape.dim, 7.0);
    }
    AttentionTensors<float> after(changed);
    after.run();
    EXPECT_EQ(before.get(before.out), after.get(after.out)) << describe(form);
    EXPECT_EQ(before.get(before.d_query), after.get(after.d_query)) << describe(form);
  }
}

TEST(LinearAttention, TokensThatSeeNoKeyGetZeros) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.masked) continue;
    Operands operands({70, 1, 6, 4, {3, 60}}, form);
    std::fill_n(operands.attended.begin(), 3, 0);       // a document without a key
    std::fill_n(operands.attended.begin() + 60, 5, 0);  // the next one begins with such tokens
    const std::vector<double> truth = operands.definition();
    AttentionTensors<float> tensors(operands);
    tensors.run();
    EXPECT_LT(worst_relative(tensors.get(tensors.out), truth), 1e-5) << describe(form);
    for (const Tensor* gradient : {&tensors.d_query, &tensors.d_key, &tensors.d_value}) {
      const std::vector<double> values = tensors.get(*gradient);
      for (std::int64_t i = 0; i < 3 * 4; ++i) EXPECT_EQ(values[i], 0) << describe(form);
      for (const double value : values) EXPECT_TRUE(std::isfinite(value)) << describe(form);
    }
  }
}

TEST(LinearAttention, GradientIsTheCentralDifference) {
  for (const AttentionForm& form : all_forms()) {
    for (const Shape& shape : kShapes) {
      if (shape.tokens > 100) continue;
      Operands operands(shape, form);
      const auto loss = [&] {
        AttentionTensors<double> tensors(operands);
        tensors.forward();
        double total = 0;
        const std::vector<double> out = tensors.get(tensors.out);
        for (std::size_t i = 0; i < out.size(); ++i) total += out[i] * operands.d_out[i];
        return total;
      };
      AttentionTensors<double> tensors(operands, 2);
      tensors.run();
      const auto compare = [&](std::vector<double>& values, const Tensor& gradient,
                               const char* name) {
        const std::vector<double> got = tensors.get(gradient);
        for (std::size_t i = 0; i < values.size(); i += 1 + values.size() / 40) {
          const double value = values[i];
          const double step = 1e-5;
          values[i] = value + step;
          const double above = loss();
          values[i] = value - step;
          const double below = loss();
          values[i] = value;
          const double expected = (above - below) / (2 * step);
          EXPECT_NEAR(got[i], expected, 2e-7 * std::max(1.0, std::abs(expected)))
              << name << "[" << i << "] of " << shape.tokens << " tokens, " << describe(form);
        }
      };
      compare(operands.query, tensors.d_query, "query");
      compare(operands.key, tensors.d_key, "key");
      compare(operands.value, tensors.d_value, "value");
    }
  }
}

TEST(LinearAttention, GradientInFloatIsNearThatInDouble) {
  for (const AttentionForm& form : all_forms()) {
    for (const Shape& shape : {kShapes[3], kShapes[5], kLong}) {
      const Operands operands(shape, form);
      AttentionTensors<double> exact(operands);
      exact.run();
      for (const int threads : {1, 2}) {
        AttentionTensors<float> tensors(operands, threads);
        tensors.run();
        const auto compare = [&](const Tensor& got, const Tensor& expected) {
          EXPECT_LT(worst_relative(tensors.get(got), exact.get(expected)), 4e-5) << describe(form);
        };
        compare(tensors.d_query, exact.d_query);
        compare(tensors.d_key, exact.d_key);
        compare(tensors.d_value, exact.d_value);
      }
    }
  }
}

TEST(LinearAttention, FutureTokensChangeNothing) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.causal) continue;
    const Shape shape{150, 2, 8, 8, {70}};
    Operands operands(shape, form);
    AttentionTensors<float> before(operands, 2);
    before.forward();
    const std::int64_t cut = 101;
    for (std::size_t i = cut * shape.heads * shape.dim; i < operands.key.size(); ++i) {
      operands.key[i] = 1e6;
      operands.query[i] = 1e6;
      operands.value[i] = 1e9;
    }
    AttentionTensors<float> after(operands, 2);
    after.forward();
    const std::int64_t count = cut * shape.heads * shape.value_dim;
    for (std::int64_t i = 0; i < count; ++i) {
      // Keys of the same chunk may change what exponents are relative to, and so the rounding.
      const bool rounds = before.input.feature_map.is_exponential();
      EXPECT_NEAR(before.out.as<float>()[i], after.out.as<float>()[i], rounds ? 1e-5 : 0)
          << describe(form);
    }
  }
}

TEST(LinearAttention, StepsEqualTheParallelForm) {
  for (const AttentionForm& form : all_forms()) {
    if (!form.causal || form.masked) continue;
    const Shape shape{41, 3, 12, 7, {}};
    const Operands operands(shape, form);
    AttentionTensors<double> parallel(operands);
    parallel.forward();
    AttentionTensors<double> stepped(operands);
    AttentionTensors<double> empty(operands.part(0, 0));
    const Tensor state = empty.sum(ShardSide::back);  // of no tokens
    for (std::int64_t i = 0; i < shape.tokens; ++i) {
      LinearAttentionInput token = stepped.input;
      token.query = stepped.input.query.rows(i, i + 1);
      token.key = stepped.input.key.rows(i, i + 1);
      token.value = stepped.input.value.rows(i, i + 1);
      token.document_starts = {};
      stepped.device.run(
          LinearAttentionStep{.out = stepped.out.rows(i, i + 1), .state = state, .input = token});
    }
    EXPECT_LT(worst_relative(stepped.get(stepped.out), parallel.get(parallel.out)), 1e-12)
        << describe(form);
  }
}

TEST(LinearAttention, BrokenContractsOfBackwardNameTheOperand) {
  const auto expect_broken = [](bool causal, const std::string& text, const auto& change) {
    AttentionTensors<float> tensors(Operands({8, 2, 4, 4, {}}, {.causal = causal}));
    LinearAttentionBackward operation{.d_query = tensors.d_query,
                                      .d_key = tensors.d_key,
                                      .d_value = tensors.d_value,
                                      .input = tensors.input,
                                      .gradient = tensors.gradient()};
    operation.check();
    change(operation, tensors);
    expect_error(ErrorKind::internal, "LinearAttentionBackward." + text,
                 [&] { operation.check(); });
  };
  using Operation = LinearAttentionBackward;
  using Tensors = AttentionTensors<float>;
  expect_broken(true, "d_key is f32[7, 2, 4]",
                [](Operation& op, Tensors&) { op.d_key = op.d_key.rows(0, 7); });
  expect_broken(true, "state_before is f32[1, 4, 5]", [](Operation& op, Tensors& t) {
    op.state_before = t.make({1, 4, 5});
  });
  expect_broken(true, "checkpoints is f32[4, 4, 5]", [](Operation& op, Tensors& t) {
    op.checkpoints = t.make({4, 4, 5});
  });
  expect_broken(false, "checkpoints", [](Operation& op, Tensors& t) {
    op.checkpoints = t.make({2, 4, 5});
  });
  expect_broken(true, "gradients_before",
                [](Operation& op, Tensors& t) { op.gradients_before = t.make_state(); });
}

TEST(LinearAttention, BrokenContractsNameTheOperand) {
  const Operands operands({8, 2, 4, 4, {}});
  AttentionTensors<float> tensors(operands);
  tensors.input.key = tensors.input.key.rows(0, 7);
  try {
    tensors.forward();
    FAIL() << "a key of another length was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("LinearAttention.key is f32[7, 2, 4]"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace longscan::test

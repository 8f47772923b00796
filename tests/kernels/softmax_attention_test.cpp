// Exact softmax attention against its definition in double, gradients against central differences
// and against theirs.
#include "kernels/softmax_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/finite_differences.h"
#include "tests/support/softmax_case.h"

namespace longscan {
namespace {

using test::central_differences;
using test::expect_close;
using test::expect_error;
using test::expect_same_on_any_threads;
using test::kDifferenceTolerance;
using test::OwnedTensor;
using test::SoftmaxCase;
using test::SoftmaxShape;
using Pieces = SoftmaxCase::Pieces;

// Sizes around the tiles of the kernels; documents of one token, on borders of tiles, begun before
// the block, and one for all.
const std::vector<SoftmaxShape> kShapes = {
    {1, 1, 1},
    {33, 2, 5},
    {43, 3, 16, {-7, 1, 2, 42}, 1000},
    {130, 2, 7, {-64, 64, 128, 129}, 64},
    {210, 1, 33, {0, 192, 193}},
    {597, 3, 24, {-1, 63, 64, 65, 127, 128, 192, 300, 301, 384, 596}, 5},
    {597, 2, 17},
};

// Every shape, causal and not, with masked keys and without.
void for_each_form(
    const std::function<void(const SoftmaxShape& shape, bool causal, bool masked)>& body) {
  for (const SoftmaxShape& shape : kShapes) {
    for (const bool causal : {true, false}) {
      for (const bool masked : {false, true}) {
        SCOPED_TRACE(std::to_string(shape.tokens) + " tokens" + (causal ? ", causal" : "") +
                     (masked ? ", masked" : ""));
        body(shape, causal, masked);
      }
    }
  }
}

void expect_log_sums(const SoftmaxCase& c, const std::vector<double>& expected, double tolerance) {
  for (std::int64_t i = 0; i < c.log_sum.size(); ++i) {
    const double truth = expected[static_cast<std::size_t>(i)];
    if (std::isinf(truth)) {
      ASSERT_EQ(c.log_sum.get(i), truth) << i;
    } else {
      ASSERT_NEAR(c.log_sum.get(i), truth, tolerance) << i;
    }
  }
}

// Outputs and gradients, to the rounding of sums of some hundred numbers.
void expect_definition(const SoftmaxCase& c, const SoftmaxCase::Definition& definition,
                       DType dtype) {
  const double tolerance = dtype == DType::f32 ? 2e-5 : 1e-13;
  expect_close(c.out, definition.out, tolerance, "out");
  expect_log_sums(c, definition.log_sum, tolerance);
  expect_close(c.d_joint, definition.d_joint, 2 * tolerance, "gradients");
}

TEST(SoftmaxAttention, IsItsDefinitionForBothTypesAndOddSizes) {
  Device device = Device::cpu(2);
  for_each_form([&](const SoftmaxShape& shape, bool causal, bool masked) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      SoftmaxCase c(dtype, shape, causal);
      c.masked = masked;
      c.forward(device), c.backward(device);
      expect_definition(c, c.definition(), dtype);
    }
  });
}

TEST(SoftmaxAttention, BlocksOfKeysInAnyOrderAreOneBlock) {
  Device device = Device::cpu(2);
  for_each_form([&](const SoftmaxShape& shape, bool causal, bool masked) {
    const std::int64_t n = shape.tokens;
    const std::vector<Pieces> cuts = {
        {{0, 0}, {0, n / 2}, {n / 2, n / 2}, {n / 2, n}, {n, n}},
        {{n / 3, n - 1 - n / 7}, {n - 1 - n / 7, n}, {0, n / 3}},
        {{n - 1, n}, {0, (n - 1) / 5}, {(n - 1) / 5, n - 1}},
    };
    for (const Pieces& query_cuts : cuts) {
      for (const Pieces& key_cuts : cuts) {
        SoftmaxCase c(DType::f64, shape, causal);
        c.masked = masked;
        c.forward(device, query_cuts, key_cuts), c.backward(device, query_cuts, key_cuts);
        SoftmaxCase once(DType::f64, shape, causal);
        once.masked = masked;
        once.forward(device), once.backward(device);
        expect_close(c.out, once.out.values(), 1e-13, "out");
        expect_log_sums(c, once.log_sum.values(), 1e-13);
        expect_close(c.d_joint, once.d_joint.values(), 2e-13, "gradients");
      }
    }
  });
}

TEST(SoftmaxAttention, GradientsAreCentralDifferences) {
  Device device = Device::cpu(1);
  for (const bool causal : {true, false}) {
    for (const bool masked : {true, false}) {
      SoftmaxCase c(DType::f64, {29, 2, 3, {-4, 5, 6, 24}, 11}, causal);
      c.masked = masked;
      c.forward(device), c.backward(device);
      const std::vector<double> expected = central_differences(c.joint, [&] {
        double loss = 0;
        const std::vector<double> outputs = c.definition().out;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
          loss += outputs[i] * c.d_out.get(static_cast<std::int64_t>(i));
        }
        return loss;
      });
      expect_close(c.d_joint, expected, kDifferenceTolerance);
    }
  }
}

TEST(SoftmaxAttention, GradientsAreAdded) {
  Device device = Device::cpu(1);
  SoftmaxCase c(DType::f64, kShapes[3], true);
  c.forward(device), c.backward(device);
  std::vector<double> twice = c.d_joint.values();
  for (double& x : twice) x *= 2;
  // The same keys once more, at the same places.
  const Pieces both = {{0, c.shape.tokens}, {0, c.shape.tokens}};
  c.backward(device, c.whole(), both);
  expect_close(c.d_joint, twice, 1e-13);
}

TEST(SoftmaxAttention, EqualKeysAreAveraged) {
  Device device = Device::cpu(1);
  SoftmaxCase c(DType::f32, {3, 1, 1}, true);
  for (std::int64_t i = 0; i < 9; ++i) c.joint.set(i, i % 3 != 2 || i == 2 ? 1 : 0);
  c.forward(device);
  expect_close(c.out, {1, 0.5, 1.0 / 3}, 1e-6);
}

TEST(SoftmaxAttention, RowsOfTheImplicitMatrixAreWeightsThatSumToOne) {
  Device device = Device::cpu(2);
  for (const bool causal : {true, false}) {
    // Values that are one-hot positions make the outputs the rows.
    SoftmaxCase c(DType::f32, {43, 2, 43, {0, 17, 18}}, causal);
    for (std::int64_t i = 0; i < 43; ++i) {
      for (std::int64_t head = 0; head < 2; ++head) {
        for (std::int64_t d = 0; d < 43; ++d) {
          c.joint.set(c.index(2, i, head) + d, i == d ? 1 : 0);
        }
      }
    }
    c.forward(device);
    for (std::int64_t row = 0; row < 43 * 2; ++row) {
      double sum = 0;
      for (std::int64_t j = 0; j < 43; ++j) {
        const double weight = c.out.get(row * 43 + j);
        sum += weight;
        ASSERT_EQ(weight > 0, c.sees(row / 2, j)) << row << ", " << j;
        ASSERT_GE(weight, 0);
      }
      ASSERT_NEAR(sum, 1, 1e-6);
    }
  }
}

TEST(SoftmaxAttention, WhatComesLaterChangesNothing) {
  Device device = Device::cpu(2);
  constexpr std::int64_t kFirstChanged = 150;  // within a tile
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const double huge : {1e3, 1e30}) {
      SoftmaxCase before(dtype, {250, 2, 9}, true);
      SoftmaxCase after(dtype, {250, 2, 9}, true);
      const std::int64_t width = 3 * 2 * 9;
      for (std::int64_t i = kFirstChanged * width; i < 250 * width; ++i) {
        after.joint.set(i, huge * after.joint.get(i));
      }
      for (SoftmaxCase* c : {&before, &after}) {
        // Tokens before the change alone have a gradient.
        for (std::int64_t i = kFirstChanged * 2 * 9; i < c->d_out.size(); ++i) c->d_out.set(i, 0);
        c->forward(device);
      }
      for (std::int64_t i = 0; i < kFirstChanged * 2 * 9; ++i) {
        ASSERT_EQ(after.out.get(i), before.out.get(i)) << huge;
      }
      before.backward(device), after.backward(device);
      for (std::int64_t i = 0; i < kFirstChanged * width; ++i) {
        // The scores of later queries with all keys are no numbers at 1e30.
        const bool of_query = i % width < width / 3;
        if (huge > 1e3 && !of_query) continue;
        ASSERT_EQ(after.d_joint.get(i), before.d_joint.get(i)) << huge;
      }
    }
  }
}

TEST(SoftmaxAttention, WhatStandsInMaskedKeysDoesNotMatter) {
  Device device = Device::cpu(2);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const bool causal : {true, false}) {
    for (const double content : {1e9, -1e9, infinity, std::nan("")}) {
      SoftmaxCase expected(DType::f32, kShapes[5], causal);
      SoftmaxCase c(DType::f32, kShapes[5], causal);
      const std::int64_t width = c.shape.heads * c.shape.dim;
      for (std::int64_t i = 0; i < c.shape.tokens; ++i) {
        if (c.mask.get(i) != 0) continue;
        for (std::int64_t n = width; n < 3 * width; ++n) c.joint.set(3 * width * i + n, content);
      }
      for (SoftmaxCase* each : {&expected, &c}) {
        each->masked = true;
        each->forward(device), each->backward(device);
      }
      EXPECT_EQ(c.out.values(), expected.out.values());
      EXPECT_EQ(c.log_sum.values(), expected.log_sum.values());
      EXPECT_EQ(c.d_joint.values(), expected.d_joint.values());
    }
  }
}

TEST(SoftmaxAttention, WhatStandsInOtherDocumentsDoesNotMatter) {
  Device device = Device::cpu(2);
  const SoftmaxShape shape{90, 2, 5, {0, 20, 50, 51}};
  for (const bool causal : {true, false}) {
    SoftmaxCase expected(DType::f32, shape, causal);
    SoftmaxCase c(DType::f32, shape, causal);
    const std::int64_t width = 2 * 5;
    for (std::int64_t i = 20 * 3 * width; i < 50 * 3 * width; ++i) c.joint.set(i, std::nan(""));
    for (SoftmaxCase* each : {&expected, &c}) each->forward(device), each->backward(device);
    for (std::int64_t i = 0; i < 90; ++i) {
      if (i >= 20 && i < 50) continue;
      for (std::int64_t n = 0; n < width; ++n) {
        ASSERT_EQ(c.out.get(i * width + n), expected.out.get(i * width + n));
      }
      for (std::int64_t n = 3 * i * width; n < 3 * (i + 1) * width; ++n) {
        ASSERT_EQ(c.d_joint.get(n), expected.d_joint.get(n));
      }
    }
  }
}

TEST(SoftmaxAttention, QueriesThatSeeNoKeyGetZeros) {
  Device device = Device::cpu(2);
  for (const bool causal : {true, false}) {
    SoftmaxCase c(DType::f32, {70, 2, 6, {0, 3, 60}}, causal);
    c.masked = true;
    for (std::int64_t i = 0; i < 70; ++i) c.mask.set(i, i < 3 || (i >= 60 && i < 65) ? 0 : 1);
    c.forward(device), c.backward(device);
    expect_definition(c, c.definition(), DType::f32);
    for (std::int64_t i = 0; i < 3 * 2 * 6; ++i) ASSERT_EQ(c.out.get(i), 0);
    for (std::int64_t i = 0; i < 3 * 2; ++i) ASSERT_EQ(c.log_sum.get(i), -HUGE_VAL);
    for (std::int64_t i = 0; i < 3 * 3 * 2 * 6; ++i) ASSERT_EQ(c.d_joint.get(i), 0);
  }
}

TEST(SoftmaxAttention, HugeScoresStayFinite) {
  Device device = Device::cpu(1);
  for (const double norm : {60.0, 1e4}) {
    for (const bool causal : {true, false}) {
      SoftmaxCase c(DType::f32, {150, 2, 16}, causal);
      for (std::int64_t i = 0; i < 150; ++i) {
        for (const std::int64_t which : {0, 1}) {
          for (const std::int64_t head : {0, 1}) {
            const std::int64_t first = c.index(which, i, head);
            const double scale = norm / std::sqrt(c.dot(c.joint, first, c.joint, first));
            for (std::int64_t d = first; d < first + 16; ++d) {
              c.joint.set(d, scale * c.joint.get(d));
            }
          }
        }
      }
      c.forward(device), c.backward(device);
      for (const OwnedTensor* each : {&c.out, &c.log_sum, &c.d_joint}) {
        for (const double x : each->values()) ASSERT_TRUE(std::isfinite(x));
      }
      // Scores of 900 in float are right to 1e-4.
      if (norm == 60) expect_close(c.out, c.definition().out, 2e-3);
    }
  }
}

TEST(SoftmaxAttention, NanIsNotSwallowed) {
  Device device = Device::cpu(1);
  for (const std::int64_t which : {0, 1, 2}) {
    SoftmaxCase c(DType::f32, {5, 1, 16}, true);
    c.joint.set(c.index(which, 2, 0) + 1, std::nan(""));
    c.forward(device);
    EXPECT_TRUE(std::isnan(c.out.get(2 * 16 + 1)));
  }
}

TEST(SoftmaxAttention, IsTheSameBitsOnAnyNumberOfThreads) {
  for (const bool causal : {true, false}) {
    expect_same_on_any_threads([&](Device& device) {
      SoftmaxCase c(DType::f32, kShapes[6], causal);
      c.forward(device), c.backward(device);
      std::vector<double> all = c.out.values();
      for (const OwnedTensor* each : {&c.log_sum, &c.d_out_dot, &c.d_joint}) {
        const std::vector<double> values = each->values();
        all.insert(all.end(), values.begin(), values.end());
      }
      return all;
    });
  }
}

TEST(SoftmaxAttention, BlocksWithoutTokensChangeNothing) {
  Device device = Device::cpu(2);
  SoftmaxCase none(DType::f32, {0, 2, 4}, true);
  none.forward(device), none.backward(device);
  SoftmaxCase c(DType::f32, kShapes[1], false);
  c.forward(device), c.backward(device);
  const std::vector<double> out = c.out.values(), d_joint = c.d_joint.values();
  const SoftmaxCase::Piece all{0, 33}, empty{33, 33};
  device.run(SoftmaxAttention{
      .out = c.out, .log_sum = c.log_sum, .queries = c.queries(all), .keys = c.keys(empty)});
  device.run(SoftmaxAttentionBackwardKeyValue{.d_key = c.part(c.d_joint, 1, all),
                                              .d_value = c.part(c.d_joint, 2, all),
                                              .queries = c.queries(empty),
                                              .keys = c.keys(all),
                                              .gradient = c.gradient(empty)});
  EXPECT_EQ(c.out.values(), out);
  EXPECT_EQ(c.d_joint.values(), d_joint);
}

TEST(SoftmaxAttention, RefusesOperandsThatDoNotFit) {
  Device device = Device::cpu(1);
  SoftmaxCase c(DType::f32, {9, 2, 4}, true);
  const SoftmaxCase::Piece all{0, 9}, some{0, 5};
  const SoftmaxAttention right{
      .out = c.out, .log_sum = c.log_sum, .queries = c.queries(all), .keys = c.keys(all)};
  const auto refuses = [&](const char* operand, const std::function<void(SoftmaxAttention&)>& f) {
    SoftmaxAttention wrong = right;
    f(wrong);
    expect_error(ErrorKind::internal, operand, [&] { device.run(wrong); });
  };
  refuses("SoftmaxAttention.out", [&](auto& op) { op.out = c.out.view().rows(0, 5); });
  refuses("SoftmaxAttention.log_sum", [&](auto& op) { op.log_sum = c.out; });
  refuses("SoftmaxAttention.value", [&](auto& op) { op.keys.value = c.keys(some).value; });
  refuses("SoftmaxAttention.keys.block.document", [&](auto& op) { op.keys.block = c.block(some); });
  refuses("SoftmaxAttention.queries.block.document", [&](auto& op) { op.queries.block = {}; });
  refuses("SoftmaxAttention.key_mask", [&](auto& op) { op.keys.key_mask = c.document; });
  SoftmaxAttentionBackwardQuery query{.d_query = c.part(c.d_joint, 0, all),
                                      .queries = c.queries(all),
                                      .keys = c.keys(all),
                                      .gradient = c.gradient(some)};
  expect_error(ErrorKind::internal, "SoftmaxAttentionBackwardQuery.d_out",
               [&] { device.run(query); });
  SoftmaxAttentionBackwardKeyValue key_value{.d_key = c.part(c.d_joint, 1, some),
                                             .d_value = c.part(c.d_joint, 2, all),
                                             .queries = c.queries(all),
                                             .keys = c.keys(all),
                                             .gradient = c.gradient(all)};
  expect_error(ErrorKind::internal, "SoftmaxAttentionBackwardKeyValue.d_key",
               [&] { device.run(key_value); });
  expect_error(ErrorKind::internal, "HeadDot.b", [&] {
    device.run(HeadDot{.dot = c.d_out_dot, .a = c.d_out, .b = c.out.view().rows(0, 5)});
  });
}

}  // namespace
}  // namespace longscan

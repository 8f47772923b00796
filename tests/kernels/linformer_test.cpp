// Linformer against its definition in double, gradients against central differences of it.
#include "kernels/linformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/finite_differences.h"
#include "tests/support/linformer_case.h"

namespace longscan {
namespace {

using test::central_differences;
using test::expect_close;
using test::expect_error;
using test::expect_same_on_any_threads;
using test::kDifferenceTolerance;
using test::kProjections;
using test::LinformerCase;
using test::LinformerShape;
using test::OwnedTensor;
using test::Projections;

// Sizes around the blocks of the kernels; documents of one token, on borders of blocks, as long as
// the projection, and begun earlier.
const std::vector<LinformerShape> kShapes = {
    {1, 1, 1, 1, 1, {}},
    {33, 2, 5, 3, 40, {0}, 0},
    {43, 3, 16, 33, 43, {0, 1, 2, 42}},
    {130, 2, 7, 129, 131, {64, 128, 129}, 67},
    {597, 3, 24, 43, 300, {63, 64, 65, 127, 128, 256, 300, 301, 596}, 5},
    {400, 1, 33, 260, 1000, {}, 600},
};

TEST(Linformer, IsItsDefinitionForBothTypesAndOddSizes) {
  Device device = Device::cpu(2);
  for (const LinformerShape& shape : kShapes) {
    for (const Projections sharing : kProjections) {
      for (const bool masked : {false, true}) {
        for (const DType dtype : {DType::f32, DType::f64}) {
          LinformerCase c(dtype, shape, sharing);
          c.masked = masked;
          c.forward(device);
          expect_close(c.out, c.definition(), dtype == DType::f32 ? 2e-4 : 1e-12,
                       std::to_string(shape.tokens) + " tokens");
        }
      }
    }
  }
}

TEST(Linformer, GradientsAreCentralDifferencesUnderEachSharing) {
  Device device = Device::cpu(2);
  const LinformerShape shape{41, 2, 3, 4, 20, {11, 12, 30}, 9};
  for (const Projections sharing : kProjections) {
    for (const bool masked : {false, true}) {
      LinformerCase c(DType::f64, shape, sharing);
      c.masked = masked;
      c.forward(device);
      c.backward(device);
      const auto loss = [&] { return c.defined_loss(); };
      expect_close(c.d_joint, central_differences(c.joint, loss), kDifferenceTolerance, "tokens");
      expect_close(c.d_key_projection, central_differences(c.key_projection, loss),
                   kDifferenceTolerance, "E");
      if (sharing == Projections::key_value) continue;
      expect_close(c.d_value_projection, central_differences(c.value_projection, loss),
                   kDifferenceTolerance, "F");
    }
  }
}

// The difference of the loss when all of `x` moves along random directions, against the gradient's
// product with each.
void expect_slopes(OwnedTensor& x, const OwnedTensor& gradient, const std::function<double()>& loss,
                   const char* what) {
  const std::vector<double> values = x.values();
  for (std::uint64_t seed = 90; seed < 93; ++seed) {
    OwnedTensor direction(DType::f64, {x.size()});
    double expected = 0;
    for (std::int64_t i = 0; i < x.size(); ++i) {
      direction.set(i, random_normal({seed}, static_cast<std::uint64_t>(i)));
      expected += gradient.get(i) * direction.get(i);
    }
    const auto loss_at = [&](double step) {
      for (std::int64_t i = 0; i < x.size(); ++i) {
        x.set(i, values[static_cast<std::size_t>(i)] + step * direction.get(i));
      }
      return loss();
    };
    const double step = 1e-6;
    const double difference = (loss_at(step) - loss_at(-step)) / (2 * step);
    loss_at(0);
    EXPECT_NEAR(difference, expected, 1e-6 * std::max(100.0, std::abs(expected))) << what;
  }
}

TEST(Linformer, GradientsAreTheSlopesOfTheDefinitionAtOddSizes) {
  Device device = Device::cpu(2);
  for (const LinformerShape& shape : kShapes) {
    for (const Projections sharing : kProjections) {
      LinformerCase c(DType::f64, shape, sharing);
      c.masked = sharing != Projections::heads;
      c.forward(device), c.backward(device);
      SCOPED_TRACE(shape.tokens);
      const auto loss = [&] { return c.defined_loss(); };
      expect_slopes(c.joint, c.d_joint, loss, "tokens");
      expect_slopes(c.key_projection, c.d_key_projection, loss, "E");
      if (sharing == Projections::key_value) continue;
      expect_slopes(c.value_projection, c.d_value_projection, loss, "F");
    }
  }
}

// The largest difference relative to the largest number.
double worst_relative(const OwnedTensor& actual, const OwnedTensor& expected) {
  double largest = 1e-3;
  double worst = 0;
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected.get(i)));
    worst = std::max(worst, std::abs(actual.get(i) - expected.get(i)));
    if (std::isnan(actual.get(i))) return INFINITY;
  }
  return worst / largest;
}

TEST(Linformer, GradientsInFloatAreNearThoseInDouble) {
  Device device = Device::cpu(2);
  for (const LinformerShape& shape : kShapes) {
    for (const Projections sharing : kProjections) {
      LinformerCase exact(DType::f64, shape, sharing);
      LinformerCase c(DType::f32, shape, sharing);
      for (const LinformerCase* each : {&exact, &c}) each->forward(device), each->backward(device);
      EXPECT_LT(worst_relative(c.d_joint, exact.d_joint), 1e-4);
      EXPECT_LT(worst_relative(c.d_key_projection, exact.d_key_projection), 1e-4);
      EXPECT_LT(worst_relative(c.d_value_projection, exact.d_value_projection), 1e-4);
    }
  }
}

TEST(Linformer, WithIdentityProjectionsOfFullLengthIsExactSoftmax) {
  Device device = Device::cpu(2);
  const LinformerShape shape{43, 3, 8, 43, 43, {}};
  LinformerCase c(DType::f64, shape, Projections::heads);
  for (std::int64_t i = 0; i < c.key_projection.size(); ++i) {
    c.key_projection.set(i, i / 43 == i % 43 ? 1 : 0);
    c.value_projection.set(i, i / 43 == i % 43 ? 1 : 0);
  }
  c.forward(device);
  std::vector<double> expected;
  for (std::int64_t i = 0; i < shape.tokens; ++i) {
    for (std::int64_t head = 0; head < shape.heads; ++head) {
      std::vector<double> weights;
      double total = 0;
      for (std::int64_t j = 0; j < shape.tokens; ++j) {
        double score = 0;
        for (std::int64_t d = 0; d < shape.dim; ++d)
          score += c.at(0, i, head, d) * c.at(1, j, head, d);
        weights.push_back(std::exp(score / std::sqrt(8.0)));
        total += weights.back();
      }
      for (std::int64_t d = 0; d < shape.dim; ++d) {
        double sum = 0;
        for (std::int64_t j = 0; j < shape.tokens; ++j) {
          sum += weights[static_cast<std::size_t>(j)] / total * c.at(2, j, head, d);
        }
        expected.push_back(sum);
      }
    }
  }
  expect_close(c.out, expected, 1e-13);
}

TEST(Linformer, WhatStandsInMaskedOutTokensDoesNotMatter) {
  Device device = Device::cpu(2);
  for (const double content : {1e9, -1e9, std::numeric_limits<double>::quiet_NaN()}) {
    LinformerCase expected(DType::f32, kShapes[3], Projections::own);
    LinformerCase c(DType::f32, kShapes[3], Projections::own);
    const std::int64_t width = c.shape.heads * c.shape.dim;
    for (std::int64_t i = 0; i < c.shape.tokens; ++i) {
      if (c.mask.get(i) != 0) continue;
      for (std::int64_t n = width; n < 3 * width; ++n) c.joint.set(3 * width * i + n, content);
    }
    for (LinformerCase* each : {&expected, &c}) {
      each->masked = true;
      each->forward(device), each->backward(device);
    }
    EXPECT_EQ(c.out.values(), expected.out.values());
    EXPECT_EQ(c.d_joint.values(), expected.d_joint.values());
    EXPECT_EQ(c.d_key_projection.values(), expected.d_key_projection.values());
    EXPECT_EQ(c.d_value_projection.values(), expected.d_value_projection.values());
  }
}

TEST(Linformer, ADocumentMaskedOutAltogetherGivesZeros) {
  Device device = Device::cpu(1);
  LinformerCase c(DType::f32, {9, 1, 4, 3, 9, {}}, Projections::heads);
  c.masked = true;
  for (std::int64_t i = 0; i < 9; ++i) c.mask.set(i, 0);
  c.forward(device), c.backward(device);
  EXPECT_EQ(c.out.values(), std::vector<double>(9 * 4));
  EXPECT_EQ(c.d_joint.values(), std::vector<double>(9 * 12));
}

TEST(Linformer, SharingOneProjectionDoesNotMakeValuesKeys) {
  Device device = Device::cpu(1);
  LinformerCase before(DType::f64, kShapes[1], Projections::key_value);
  LinformerCase after(DType::f64, kShapes[1], Projections::key_value);
  const std::int64_t width = after.shape.heads * after.shape.dim;
  for (std::int64_t i = 0; i < after.shape.tokens; ++i) {
    for (std::int64_t n = 0; n < width; ++n) {
      const std::int64_t value = 3 * width * i + 2 * width + n;
      after.joint.set(value, 2 * after.joint.get(value));
    }
  }
  before.forward(device), after.forward(device);
  // The weights depend on keys alone, so outputs double with the values.
  EXPECT_EQ(after.log_sum.values(), before.log_sum.values());
  for (std::int64_t i = 0; i < before.out.size(); ++i) {
    ASSERT_NEAR(after.out.get(i), 2 * before.out.get(i), 1e-12);
    ASSERT_NE(after.out.get(i), before.out.get(i));
  }
}

TEST(Linformer, GradientsOfTheProjectionsAreAdded) {
  Device device = Device::cpu(1);
  LinformerCase c(DType::f64, kShapes[2], Projections::own);
  c.forward(device), c.backward(device);
  std::vector<double> expected = c.d_value_projection.values();
  for (double& x : expected) x *= 2;
  c.backward(device);
  expect_close(c.d_value_projection, expected, 1e-13);
}

TEST(Linformer, HugeScoresStayFinite) {
  Device device = Device::cpu(1);
  LinformerCase c(DType::f32, kShapes[2], Projections::heads);
  for (std::int64_t i = 0; i < c.joint.size(); ++i) c.joint.set(i, 1e3 * c.joint.get(i));
  c.forward(device), c.backward(device);
  for (const OwnedTensor* each : {&c.out, &c.d_joint, &c.d_key_projection}) {
    for (const double x : each->values()) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST(Linformer, IsTheSameBitsOnAnyNumberOfThreads) {
  for (const Projections sharing : kProjections) {
    expect_same_on_any_threads([&](Device& device) {
      const LinformerCase c(DType::f32, kShapes[4], sharing);
      c.forward(device), c.backward(device);
      std::vector<double> all = c.out.values();
      for (const OwnedTensor* each : {&c.d_joint, &c.d_key_projection, &c.d_value_projection}) {
        const std::vector<double> values = each->values();
        all.insert(all.end(), values.begin(), values.end());
      }
      return all;
    });
  }
}

TEST(Linformer, ADocumentLongerThanTheProjectionIsAnError) {
  Device device = Device::cpu(1);
  const LinformerCase fits(DType::f32, {43, 1, 4, 3, 33, {33}}, Projections::heads);
  fits.forward(device);
  const LinformerCase too_long(DType::f32, {44, 1, 4, 3, 33, {34}}, Projections::heads);
  expect_error(ErrorKind::data, "a document has 34 tokens or more",
               [&] { too_long.forward(device); });
  const LinformerCase continued(DType::f32, {5, 1, 4, 3, 33, {}, 30}, Projections::heads);
  expect_error(ErrorKind::data, "linformer's projections have 33 columns",
               [&] { continued.forward(device); });
}

TEST(Linformer, AShardWithoutTokensChangesNothing) {
  Device device = Device::cpu(2);
  const LinformerCase c(DType::f32, {0, 2, 4, 3, 33, {}}, Projections::own);
  c.forward(device), c.backward(device);
  EXPECT_EQ(c.d_key_projection.values(), std::vector<double>(2 * 3 * 33));
}

TEST(Linformer, RefusesShapesThatDoNotFit) {
  Device device = Device::cpu(1);
  LinformerCase c(DType::f32, {9, 2, 4, 3, 9, {}}, Projections::own);
  LinformerProject project{.projected = c.projected, .keys = c.keys()};
  project.keys.key_projection = c.key_projection.view().rows(0, 4);
  expect_error(ErrorKind::internal, "LinformerProject.key_projection",
               [&] { device.run(project); });
  LinformerAttend attend{.out = c.out, .log_sum = c.log_sum, .queries = c.queries()};
  const OwnedTensor starts(DType::i64, {2}, {4, 6});
  attend.queries.document_starts = starts;
  expect_error(ErrorKind::internal, "LinformerAttend.projected", [&] { device.run(attend); });
}

}  // namespace
}  // namespace longscan

// Linformer against its definition in double, gradients against central differences of it.
#include "kernels/linformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/finite_differences.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::central_differences;
using test::expect_close;
using test::expect_error;
using test::expect_same_on_any_threads;
using test::kDifferenceTolerance;
using test::OwnedTensor;
using test::weighted_sum;

// Whose the projections are: each head has its own E and F, all heads share them, or E = F.
enum class Sharing { own, heads, key_value };
constexpr Sharing kSharings[] = {Sharing::own, Sharing::heads, Sharing::key_value};

struct Shape {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
  std::int64_t length;  // k
  std::int64_t places;  // n
  std::vector<std::int64_t> starts;
  std::int64_t first_place = 0;  // of token 0: its document began before the shard
};

// Sizes around the blocks of the kernels; documents of one token, on borders of blocks, as long as
// the projection, and begun earlier.
const std::vector<Shape> kShapes = {
    {1, 1, 1, 1, 1, {}},
    {33, 2, 5, 3, 40, {0}, 0},
    {43, 3, 16, 33, 43, {0, 1, 2, 42}},
    {130, 2, 7, 129, 131, {64, 128, 129}, 67},
    {597, 3, 24, 43, 300, {63, 64, 65, 127, 128, 256, 300, 301, 596}, 5},
    {400, 1, 33, 260, 1000, {}, 600},
};

// Operands of one call. Query, key and value lie beside each other, as a joint projection leaves
// them, and so do their gradients.
struct Case {
  Shape shape;
  Sharing sharing;
  OwnedTensor joint, d_joint, key_projection, value_projection, d_key_projection,
      d_value_projection, out, d_out, log_sum, position, starts, mask, projected, d_projected;
  bool masked = false;

  Case(DType dtype, const Shape& s, Sharing whose)
      : shape(s),
        sharing(whose),
        joint(OwnedTensor::random(dtype, {s.tokens, 3 * s.heads * s.dim}, 1)),
        d_joint(dtype, {s.tokens, 3 * s.heads * s.dim}),
        key_projection(OwnedTensor::random(dtype, {rows(), s.places}, 2, 0.3)),
        value_projection(OwnedTensor::random(dtype, {rows(), s.places}, 3, 0.3)),
        d_key_projection(dtype, {rows(), s.places}),
        d_value_projection(dtype, {rows(), s.places}),
        out(dtype, {s.tokens, s.heads, s.dim}),
        d_out(OwnedTensor::random(dtype, {s.tokens, s.heads, s.dim}, 4)),
        log_sum(dtype, {s.tokens, s.heads}),
        position(DType::i64, {s.tokens}),
        starts(DType::i64, {std::ssize(s.starts)},
               std::vector<double>(s.starts.begin(), s.starts.end())),
        mask(DType::u8, {s.tokens}),
        projected(dtype, {count_documents(s.tokens, starts) * s.heads, s.length, 2 * s.dim}),
        d_projected(dtype, {count_documents(s.tokens, starts) * s.heads, s.length, 2 * s.dim}) {
    std::int64_t place = s.first_place;
    for (std::int64_t i = 0; i < s.tokens; ++i) {
      if (starts_at(i)) place = 0;
      position.set(i, static_cast<double>(place++));
      mask.set(i, i % 3 != 1 ? 1 : 0);
    }
  }

  std::int64_t rows() const { return (sharing == Sharing::own ? shape.heads : 1) * shape.length; }
  bool starts_at(std::int64_t i) const {
    return std::find(shape.starts.begin(), shape.starts.end(), i) != shape.starts.end();
  }
  bool counts(std::int64_t i) const { return !masked || mask.get(i) != 0; }
  Tensor part(const OwnedTensor& from, std::int64_t index) const {
    const std::int64_t width = shape.heads * shape.dim;
    return from.view().columns(index * width, (index + 1) * width).split_heads(shape.heads);
  }
  const OwnedTensor& values_with() const {
    return sharing == Sharing::key_value ? key_projection : value_projection;
  }
  OwnedTensor& values_with() {
    return sharing == Sharing::key_value ? key_projection : value_projection;
  }

  LinformerKeys keys() const {
    return {.key = part(joint, 1),
            .value = part(joint, 2),
            .key_projection = key_projection,
            .value_projection = values_with(),
            .position = position,
            .document_starts = starts,
            .key_mask = masked ? mask.view() : Tensor{}};
  }
  LinformerQueries queries() const {
    return {.query = part(joint, 0), .projected = projected, .document_starts = starts};
  }
  void forward(Device& device) const {
    device.run(LinformerProject{.projected = projected, .keys = keys()});
    device.run(LinformerAttend{.out = out, .log_sum = log_sum, .queries = queries()});
  }
  void backward(Device& device) const {
    const LinformerGradient gradient{.d_out = d_out, .out = out, .log_sum = log_sum};
    device.run(LinformerBackwardProjected{
        .d_projected = d_projected, .queries = queries(), .gradient = gradient});
    device.run(LinformerBackwardQuery{
        .d_query = part(d_joint, 0), .queries = queries(), .gradient = gradient});
    device.run(LinformerBackwardKeys{
        .d_key = part(d_joint, 1),
        .d_value = part(d_joint, 2),
        .d_key_projection = d_key_projection,
        .d_value_projection = sharing == Sharing::key_value ? d_key_projection : d_value_projection,
        .keys = keys(),
        .d_projected = d_projected});
  }

  // Query (0), key (1) or value (2) of a token.
  double at(std::int64_t which, std::int64_t token, std::int64_t head, std::int64_t d) const {
    return joint.get((3 * token + which) * shape.heads * shape.dim + head * shape.dim + d);
  }

  // head = softmax(Q (E K)^T / sqrt(dim)) (F V), document by document.
  std::vector<double> definition() const {
    std::vector<double> result(static_cast<std::size_t>(out.size()));
    for (std::int64_t begin = 0; begin < shape.tokens;) {
      std::int64_t end = begin + 1;
      while (end < shape.tokens && !starts_at(end)) ++end;
      for (std::int64_t head = 0; head < shape.heads; ++head) {
        define_document(result, begin, end, head);
      }
      begin = end;
    }
    return result;
  }

  void define_document(std::vector<double>& result, std::int64_t begin, std::int64_t end,
                       std::int64_t head) const {
    const auto dim = static_cast<std::size_t>(shape.dim);
    const std::int64_t row0 = sharing == Sharing::own ? head * shape.length : 0;
    std::vector<std::vector<double>> keys, values;
    for (std::int64_t r = 0; r < shape.length; ++r) {
      keys.emplace_back(dim), values.emplace_back(dim);
      for (std::int64_t j = begin; j < end; ++j) {
        if (!counts(j)) continue;
        const std::int64_t entry =
            (row0 + r) * shape.places + static_cast<std::int64_t>(position.get(j));
        for (std::size_t d = 0; d < dim; ++d) {
          const auto column = static_cast<std::int64_t>(d);
          keys.back()[d] += key_projection.get(entry) * at(1, j, head, column);
          values.back()[d] += values_with().get(entry) * at(2, j, head, column);
        }
      }
    }
    for (std::int64_t i = begin; i < end; ++i) {
      std::vector<double> scores;
      for (const std::vector<double>& key : keys) {
        double score = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          score += at(0, i, head, static_cast<std::int64_t>(d)) * key[d];
        }
        scores.push_back(score / std::sqrt(static_cast<double>(dim)));
      }
      const double highest = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& score : scores) total += score = std::exp(score - highest);
      for (std::size_t r = 0; r < scores.size(); ++r) {
        for (std::size_t d = 0; d < dim; ++d) {
          result[static_cast<std::size_t>((i * shape.heads + head)) * dim + d] +=
              scores[r] / total * values[r][d];
        }
      }
    }
  }

  double defined_loss() const {
    const std::vector<double> outputs = definition();
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      sum += outputs[i] * d_out.get(static_cast<std::int64_t>(i));
    }
    return sum;
  }
};

TEST(Linformer, IsItsDefinitionForBothTypesAndOddSizes) {
  Device device = Device::cpu(2);
  for (const Shape& shape : kShapes) {
    for (const Sharing sharing : kSharings) {
      for (const bool masked : {false, true}) {
        for (const DType dtype : {DType::f32, DType::f64}) {
          Case c(dtype, shape, sharing);
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
  const Shape shape{41, 2, 3, 4, 20, {11, 12, 30}, 9};
  for (const Sharing sharing : kSharings) {
    for (const bool masked : {false, true}) {
      Case c(DType::f64, shape, sharing);
      c.masked = masked;
      c.forward(device);
      c.backward(device);
      const auto loss = [&] { return c.defined_loss(); };
      expect_close(c.d_joint, central_differences(c.joint, loss), kDifferenceTolerance, "tokens");
      expect_close(c.d_key_projection, central_differences(c.key_projection, loss),
                   kDifferenceTolerance, "E");
      if (sharing == Sharing::key_value) continue;
      expect_close(c.d_value_projection, central_differences(c.value_projection, loss),
                   kDifferenceTolerance, "F");
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
  for (const Shape& shape : kShapes) {
    for (const Sharing sharing : kSharings) {
      Case exact(DType::f64, shape, sharing);
      Case c(DType::f32, shape, sharing);
      for (const Case* each : {&exact, &c}) each->forward(device), each->backward(device);
      EXPECT_LT(worst_relative(c.d_joint, exact.d_joint), 1e-4);
      EXPECT_LT(worst_relative(c.d_key_projection, exact.d_key_projection), 1e-4);
      EXPECT_LT(worst_relative(c.d_value_projection, exact.d_value_projection), 1e-4);
    }
  }
}

TEST(Linformer, WithIdentityProjectionsOfFullLengthIsExactSoftmax) {
  Device device = Device::cpu(2);
  const Shape shape{43, 3, 8, 43, 43, {}};
  Case c(DType::f64, shape, Sharing::heads);
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
    Case expected(DType::f32, kShapes[3], Sharing::own);
    Case c(DType::f32, kShapes[3], Sharing::own);
    const std::int64_t width = c.shape.heads * c.shape.dim;
    for (std::int64_t i = 0; i < c.shape.tokens; ++i) {
      if (c.mask.get(i) != 0) continue;
      for (std::int64_t n = width; n < 3 * width; ++n) c.joint.set(3 * width * i + n, content);
    }
    for (Case* each : {&expected, &c}) {
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
  Case c(DType::f32, {9, 1, 4, 3, 9, {}}, Sharing::heads);
  c.masked = true;
  for (std::int64_t i = 0; i < 9; ++i) c.mask.set(i, 0);
  c.forward(device), c.backward(device);
  EXPECT_EQ(c.out.values(), std::vector<double>(9 * 4));
  EXPECT_EQ(c.d_joint.values(), std::vector<double>(9 * 12));
}

TEST(Linformer, SharingOneProjectionDoesNotMakeValuesKeys) {
  Device device = Device::cpu(1);
  Case before(DType::f64, kShapes[1], Sharing::key_value);
  Case after(DType::f64, kShapes[1], Sharing::key_value);
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
  Case c(DType::f64, kShapes[2], Sharing::own);
  c.forward(device), c.backward(device);
  std::vector<double> expected = c.d_value_projection.values();
  for (double& x : expected) x *= 2;
  c.backward(device);
  expect_close(c.d_value_projection, expected, 1e-13);
}

TEST(Linformer, HugeScoresStayFinite) {
  Device device = Device::cpu(1);
  Case c(DType::f32, kShapes[2], Sharing::heads);
  for (std::int64_t i = 0; i < c.joint.size(); ++i) c.joint.set(i, 1e3 * c.joint.get(i));
  c.forward(device), c.backward(device);
  for (const OwnedTensor* each : {&c.out, &c.d_joint, &c.d_key_projection}) {
    for (const double x : each->values()) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST(Linformer, IsTheSameBitsOnAnyNumberOfThreads) {
  for (const Sharing sharing : kSharings) {
    expect_same_on_any_threads([&](Device& device) {
      const Case c(DType::f32, kShapes[4], sharing);
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
  const Case fits(DType::f32, {43, 1, 4, 3, 33, {33}}, Sharing::heads);
  fits.forward(device);
  const Case too_long(DType::f32, {44, 1, 4, 3, 33, {34}}, Sharing::heads);
  expect_error(ErrorKind::data, "a document has 34 tokens or more",
               [&] { too_long.forward(device); });
  const Case continued(DType::f32, {5, 1, 4, 3, 33, {}, 30}, Sharing::heads);
  expect_error(ErrorKind::data, "linformer's projections have 33 columns",
               [&] { continued.forward(device); });
}

TEST(Linformer, AShardWithoutTokensChangesNothing) {
  Device device = Device::cpu(2);
  const Case c(DType::f32, {0, 2, 4, 3, 33, {}}, Sharing::own);
  c.forward(device), c.backward(device);
  EXPECT_EQ(c.d_key_projection.values(), std::vector<double>(2 * 3 * 33));
}

TEST(Linformer, RefusesShapesThatDoNotFit) {
  Device device = Device::cpu(1);
  Case c(DType::f32, {9, 2, 4, 3, 9, {}}, Sharing::own);
  LinformerProject project{.projected = c.projected, .keys = c.keys()};
  project.keys.key_projection = c.key_projection.view().rows(0, 4);
  expect_error(ErrorKind::internal, "LinformerProject.key_projection",
               [&] { device.run(project); });
  LinformerAttend attend{.out = c.out, .log_sum = c.log_sum, .queries = c.queries()};
  const OwnedTensor starts(DType::i64, {1}, {4});
  attend.queries.document_starts = starts;
  expect_error(ErrorKind::internal, "LinformerAttend.projected", [&] { device.run(attend); });
}

}  // namespace
}  // namespace longscan

// Embeddings, and positions that stay exact to the end of very long lines.
#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/finite_differences.h"
#include "tests/support/reference.h"
#include "tests/support/samples.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::kOddSizes;
using test::OwnedTensor;
using test::positions_from;
using test::random_index;
using test::tolerance;

constexpr std::int64_t kFarAway = std::int64_t{1} << 40;

// 10000^(-2i / dim) with the 64 bits of a long double.
long double frequency(std::int64_t i, std::int64_t dim) {
  return std::pow(10000.0L, -2.0L * static_cast<long double>(i) / static_cast<long double>(dim));
}

class EmbeddingOfType : public testing::TestWithParam<DType> {
 protected:
  const DType dtype = GetParam();
  Device device = Device::cpu(2);
};

TEST_P(EmbeddingOfType, LooksUpOrAddsTheEntries) {
  for (const DType index_type : {DType::i32, DType::i64}) {
    for (const std::int64_t tokens : kOddSizes) {
      for (const std::int64_t width : kOddSizes) {
        const OwnedTensor table = OwnedTensor::random(dtype, {29, width}, 1);
        const OwnedTensor index = random_index(index_type, tokens, 29);
        OwnedTensor out(dtype, {tokens, width});
        std::vector<double> once;
        std::vector<double> twice;
        for (std::int64_t i = 0; i < out.size(); ++i) {
          const auto entry = static_cast<std::int64_t>(index.get(i / width));
          once.push_back(table.get(entry * width + i % width));
          twice.push_back(2 * once.back());
        }
        device.run(Embedding{.out = out, .table = table, .index = index});
        ASSERT_EQ(out.values(), once);
        device.run(Embedding{.out = out, .table = table, .index = index, .accumulate = true});
        ASSERT_EQ(out.values(), twice);
      }
    }
  }
}

TEST_P(EmbeddingOfType, BackwardAddsTheGradientsOfEqualTokens) {
  for (const DType index_type : {DType::i32, DType::i64}) {
    for (const std::int64_t tokens : kOddSizes) {
      for (const std::int64_t width : kOddSizes) {
        const OwnedTensor d_out = OwnedTensor::random(dtype, {tokens, width}, 2);
        const OwnedTensor index = random_index(index_type, tokens, 29);
        OwnedTensor d_table = OwnedTensor::random(dtype, {29, width}, 3);
        std::vector<double> expected = d_table.values();
        for (std::int64_t i = 0; i < d_out.size(); ++i) {
          const auto entry = static_cast<std::int64_t>(index.get(i / width));
          expected[static_cast<std::size_t>(entry * width + i % width)] += d_out.get(i);
        }
        device.run(EmbeddingBackward{.d_table = d_table, .d_out = d_out, .index = index});
        expect_close(d_table, expected, tolerance(dtype));
      }
    }
  }
}

TEST_P(EmbeddingOfType, SinusoidalPositionsAreAddedByTheirFormula) {
  constexpr std::int64_t kTokens = 597;
  for (const std::int64_t width : {2, 34, 86, 256}) {
    OwnedTensor out = OwnedTensor::random(dtype, {kTokens, width}, 4);
    std::vector<double> expected;
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const long double angle =
          static_cast<long double>(1000 + i / width) * frequency(i % width / 2, width);
      const long double wave = i % 2 == 0 ? std::sin(angle) : std::cos(angle);
      expected.push_back(out.get(i) + static_cast<double>(wave));
    }
    device.run(SinusoidalPositions{.out = out, .position = positions_from(1000, kTokens)});
    expect_close(out, expected, tolerance(dtype) / 10);
  }
}

TEST_P(EmbeddingOfType, RotaryTableIsItsFormulaNearAndFar) {
  for (const std::int64_t first : {std::int64_t{0}, std::int64_t{1} << 20, kFarAway - 597}) {
    for (const std::int64_t dim : {2, 34, 64, 86}) {
      OwnedTensor table(dtype, {597, dim});
      device.run(RotaryTable{.table = table, .position = positions_from(first, 597)});
      std::vector<double> expected;
      for (std::int64_t i = 0; i < table.size(); ++i) {
        const std::int64_t pair = i % (dim / 2);
        const long double angle = static_cast<long double>(first + i / dim) * frequency(pair, dim);
        const bool is_cosine = i % dim < dim / 2;
        expected.push_back(static_cast<double>(is_cosine ? std::cos(angle) : std::sin(angle)));
      }
      // The angle of the reference is only good to 64 bits.
      const double bound = tolerance(dtype) / 10 + static_cast<double>(first) * 0x1p-63;
      expect_close(table, expected, bound);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, EmbeddingOfType, testing::Values(DType::f32, DType::f64),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(RotaryTable, IsExactWhereTheAngleIsAWholeNumber) {
  // At dim 64 the frequencies of i = 0, 8, 16, 24 are 1, 1/10, 1/100, 1/1000.
  Device device = Device::cpu(1);
  OwnedTensor table(DType::f64, {3, 64});
  const double multiples[] = {1e9, 123456789, 1099511627};
  OwnedTensor position(DType::i64, {3});
  for (std::int64_t token = 0; token < 3; ++token) position.set(token, 1000 * multiples[token]);
  device.run(RotaryTable{.table = table, .position = position});
  for (std::int64_t token = 0; token < 3; ++token) {
    for (const int digits : {0, 1, 2, 3}) {
      const double angle = multiples[token] * std::pow(10.0, 3 - digits);
      EXPECT_NEAR(table.get(token * 64 + 8 * digits), std::cos(angle), 2e-15) << angle;
      EXPECT_NEAR(table.get(token * 64 + 32 + 8 * digits), std::sin(angle), 2e-15) << angle;
    }
  }
}

TEST(Rotary, TurnsPairsByTheirAnglesAndBack) {
  Device device = Device::cpu(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::int64_t tokens : kOddSizes) {
      for (const std::int64_t dim : {2, 34, 64}) {
        const std::int64_t heads = 3;
        const OwnedTensor position = positions_from(70, tokens);
        OwnedTensor table(dtype, {tokens, dim});
        device.run(RotaryTable{.table = table, .position = position});
        // The heads lie between other columns, as queries do in a fused projection.
        OwnedTensor fused = OwnedTensor::random(dtype, {tokens, heads * dim + 5}, 5);
        const std::vector<double> before = fused.values();
        std::vector<double> expected = before;
        for (std::int64_t token = 0; token < tokens; ++token) {
          for (std::int64_t pair = 0; pair < heads * dim / 2; ++pair) {
            const std::int64_t i = pair % (dim / 2);
            const std::int64_t start = pair / (dim / 2) * dim + i;
            const auto place = static_cast<std::size_t>(token * (heads * dim + 5) + 2 + start);
            const auto partner = place + static_cast<std::size_t>(dim / 2);
            const double angle = static_cast<double>((70 + token) * frequency(i, dim));
            expected[place] = before[place] * std::cos(angle) - before[partner] * std::sin(angle);
            expected[partner] = before[partner] * std::cos(angle) + before[place] * std::sin(angle);
          }
        }
        const Tensor x = fused.view().columns(2, 2 + heads * dim).split_heads(heads);
        device.run(Rotary{.x = x, .table = table});
        expect_close(fused, expected, tolerance(dtype));
        device.run(Rotary{.x = x, .table = table, .inverse = true});
        expect_close(fused, before, tolerance(dtype), "and back");
      }
    }
  }
}

TEST(Rotary, ProductsOfTurnedVectorsDependOnTheDistanceOnly) {
  Device device = Device::cpu(1);
  const OwnedTensor query = OwnedTensor::random(DType::f64, {64}, 1);
  const OwnedTensor key = OwnedTensor::random(DType::f64, {64}, 2);
  const auto product = [&](std::int64_t query_position, std::int64_t key_position) {
    OwnedTensor x(DType::f64, {2, 1, 64});
    for (std::int64_t i = 0; i < 64; ++i) x.set(i, query.get(i));
    for (std::int64_t i = 0; i < 64; ++i) x.set(64 + i, key.get(i));
    OwnedTensor position(DType::i64, {2});
    position.set(0, static_cast<double>(query_position));
    position.set(1, static_cast<double>(key_position));
    OwnedTensor table(DType::f64, {2, 64});
    device.run(RotaryTable{.table = table, .position = position});
    device.run(Rotary{.x = x, .table = table});
    double sum = 0;
    for (std::int64_t i = 0; i < 64; ++i) sum += x.get(i) * x.get(64 + i);
    return sum;
  };
  EXPECT_NEAR(product(105, 100), product(5, 0), 1e-12);
  EXPECT_NEAR(product(kFarAway + 5, kFarAway), product(5, 0), 1e-12);
}

TEST(Rotary, InverseIsTheGradient) {
  Device device = Device::cpu(1);
  OwnedTensor x = OwnedTensor::random(DType::f64, {5, 2, 8}, 1);
  const OwnedTensor d_out = OwnedTensor::random(DType::f64, {5, 2, 8}, 2);
  OwnedTensor table(DType::f64, {5, 8});
  device.run(RotaryTable{.table = table, .position = positions_from(3, 5)});
  OwnedTensor d_x(DType::f64, {5, 2, 8}, d_out.values());
  device.run(Rotary{.x = d_x, .table = table, .inverse = true});
  const auto loss = [&] {
    OwnedTensor turned(DType::f64, {5, 2, 8}, x.values());
    device.run(Rotary{.x = turned, .table = table});
    return test::weighted_sum(turned, d_out);
  };
  expect_close(d_x, test::central_differences(x, loss), test::kDifferenceTolerance);
}

TEST(EmbeddingBackward, GivesTheSameBitsOnAnyNumberOfThreads) {
  test::expect_same_on_any_threads([](Device& device) {
    const OwnedTensor d_out = OwnedTensor::random(DType::f32, {597, 257}, 1);
    OwnedTensor d_table(DType::f32, {7, 257});
    device.run(EmbeddingBackward{
        .d_table = d_table, .d_out = d_out, .index = random_index(DType::i32, 597, 7)});
    return d_table.values();
  });
}

TEST(Positions, GiveTheSameBitsOnAnyNumberOfThreads) {
  test::expect_same_on_any_threads([](Device& device) {
    const OwnedTensor position = positions_from(12345, 597);
    OwnedTensor x = OwnedTensor::random(DType::f32, {597, 128}, 1);
    OwnedTensor table(DType::f32, {597, 64});
    device.run(SinusoidalPositions{.out = x, .position = position});
    device.run(RotaryTable{.table = table, .position = position});
    device.run(Rotary{.x = x.view().split_heads(2), .table = table});
    return x.values();
  });
}

TEST(Embedding, AnIndexOutsideTheTableIsNamed) {
  Device device = Device::cpu(2);
  const OwnedTensor table(DType::f32, {10, 4});
  const OwnedTensor out(DType::f32, {3, 4});
  for (const double wrong : {10.0, -1.0}) {
    const OwnedTensor index(DType::i64, {3}, {0, wrong, 9});
    const std::string text = fmt::format("index {} of token 1 is outside the table", wrong);
    expect_error(ErrorKind::data, text,
                 [&] { device.run(Embedding{.out = out, .table = table, .index = index}); });
    expect_error(ErrorKind::data, text, [&] {
      device.run(EmbeddingBackward{.d_table = table, .d_out = out, .index = index});
    });
  }
}

TEST(Embedding, AnEmptyShardIsNothing) {
  Device device = Device::cpu(2);
  const OwnedTensor table = OwnedTensor::random(DType::f32, {10, 4}, 1);
  const OwnedTensor nothing(DType::f32, {0, 4});
  const OwnedTensor position(DType::i64, {0});
  const std::vector<double> before = table.values();
  device.run(Embedding{.out = nothing, .table = table, .index = position});
  device.run(EmbeddingBackward{.d_table = table, .d_out = nothing, .index = position});
  device.run(SinusoidalPositions{.out = nothing, .position = position});
  device.run(RotaryTable{.table = nothing, .position = position});
  EXPECT_EQ(table.values(), before);
}

TEST(EmbeddingContract, BrokenOnesNameTheOperand) {
  Device device = Device::cpu(1);
  const OwnedTensor table(DType::f32, {10, 4});
  const OwnedTensor out(DType::f32, {3, 4});
  const OwnedTensor odd(DType::f32, {3, 5});
  const OwnedTensor heads(DType::f32, {3, 2, 4});
  const OwnedTensor odd_heads(DType::f32, {3, 2, 5});
  const OwnedTensor index(DType::i32, {3});
  const OwnedTensor position(DType::i64, {3});
  const OwnedTensor short_position(DType::i64, {2});
  const auto expect = [&](const char* operand, const auto& operation) {
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  expect("Embedding.out", Embedding{.out = index, .table = table, .index = index});
  expect("Embedding.table", Embedding{.out = out, .table = odd, .index = index});
  expect("Embedding.index", Embedding{.out = out, .table = table, .index = short_position});
  expect("Embedding.index", Embedding{.out = out, .table = table, .index = out});
  expect("EmbeddingBackward.d_out",
         EmbeddingBackward{.d_table = table, .d_out = odd, .index = index});
  expect("EmbeddingBackward.index",
         EmbeddingBackward{.d_table = table, .d_out = out, .index = short_position});
  expect("SinusoidalPositions.out", SinusoidalPositions{.out = odd, .position = position});
  expect("SinusoidalPositions.position", SinusoidalPositions{.out = out, .position = index});
  expect("RotaryTable.table", RotaryTable{.table = odd, .position = position});
  expect("RotaryTable.position", RotaryTable{.table = out, .position = short_position});
  expect("Rotary.x", Rotary{.x = out, .table = out});
  expect("Rotary.x", Rotary{.x = odd_heads, .table = odd});
  expect("Rotary.table", Rotary{.x = heads, .table = odd});
}

}  // namespace
}  // namespace longscan

// Elementwise operations against their formulas in double.
#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/finite_differences.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::kOddSizes;
using test::OwnedTensor;
using test::tolerance;

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double activation(ActivationKind kind, double x) {
  if (kind == ActivationKind::relu) return std::max(x, 0.0);
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

class Elementwise : public testing::TestWithParam<DType> {
 protected:
  const DType dtype = GetParam();
  Device device = Device::cpu(2);
};

TEST_P(Elementwise, FillWritesEveryElement) {
  for (const std::int64_t count : {0, 1, 597, 100003}) {
    OwnedTensor out(dtype, {count});
    device.run(Fill{.out = out, .value = 0.75});
    for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(out.get(i), 0.75);
  }
}

TEST_P(Elementwise, CopyLeavesWhatLiesInGaps) {
  const OwnedTensor in = OwnedTensor::random(dtype, {43, 2, 7}, 1);
  OwnedTensor out(dtype, {43, 3 * 7});
  device.run(Copy{.out = out.view().columns(7, 21).split_heads(2), .in = in});
  for (std::int64_t i = 0; i < out.size(); ++i) {
    const std::int64_t row = i / 21;
    const std::int64_t column = i % 21;
    ASSERT_EQ(out.get(i), column < 7 ? 0 : in.get(row * 14 + column - 7));
  }
  const OwnedTensor places(DType::i64, {3}, {5, 6, 7});
  OwnedTensor other(DType::i64, {3});
  device.run(Copy{.out = other, .in = places});
  EXPECT_EQ(other.values(), places.values());
  expect_error(ErrorKind::internal, "Copy.in", [&] { device.run(Copy{.out = out, .in = in}); });
  expect_error(ErrorKind::internal, "Copy.in", [&] { device.run(Copy{.out = out, .in = places}); });
}

TEST_P(Elementwise, AddSumsRowsThatHaveGaps) {
  for (const std::int64_t rows : kOddSizes) {
    for (const std::int64_t columns : kOddSizes) {
      OwnedTensor a = OwnedTensor::random(dtype, {rows, columns + 3}, 1);
      OwnedTensor b = OwnedTensor::random(dtype, {rows, columns}, 2);
      OwnedTensor out(dtype, {rows, columns});
      std::vector<double> expected;
      for (std::int64_t i = 0; i < rows * columns; ++i) {
        const std::int64_t in_a = i / columns * (columns + 3) + 2 + i % columns;
        expected.push_back(a.get(in_a) + b.get(i));
      }
      device.run(Add{.out = out, .a = a.view().columns(2, columns + 2), .b = b});
      expect_close(out, expected, tolerance(dtype));
      device.run(Add{.out = b, .a = b, .b = a.view().columns(2, columns + 2)});
      expect_close(b, expected, tolerance(dtype), "in place");
    }
  }
}

TEST_P(Elementwise, AddLeavesTheGapsAlone) {
  OwnedTensor out = OwnedTensor::random(dtype, {33, 7}, 1);
  const OwnedTensor before(dtype, {33, 7}, out.values());
  const OwnedTensor a = OwnedTensor::random(dtype, {33, 5}, 2);
  device.run(Add{.out = out.view().columns(1, 6), .a = a, .b = a});
  for (std::int64_t row = 0; row < 33; ++row) {
    EXPECT_EQ(out.get(row * 7), before.get(row * 7));
    EXPECT_EQ(out.get(row * 7 + 6), before.get(row * 7 + 6));
  }
}

TEST_P(Elementwise, ActivationIsItsFormula) {
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::relu}) {
    for (const std::int64_t rows : kOddSizes) {
      OwnedTensor in = OwnedTensor::random(dtype, {rows, 43}, 3, 4);
      OwnedTensor out(dtype, {rows, 43});
      std::vector<double> expected;
      for (const double x : in.values()) expected.push_back(activation(kind, x));
      device.run(Activation{.out = out, .in = in, .kind = kind});
      expect_close(out, expected, tolerance(dtype));
    }
  }
}

TEST_P(Elementwise, GeluKeepsItsDigitsFromFarBelowToFarAboveZero) {
  constexpr std::int64_t kCount = 40001;
  OwnedTensor in(dtype, {1, kCount});
  for (std::int64_t i = 0; i < kCount; ++i) in.set(i, (static_cast<double>(i) - 20000) * 1e-3);
  OwnedTensor out(dtype, {1, kCount});
  device.run(Activation{.out = out, .in = in});
  // The exponent 2u is rounded before e^-2u magnifies that: relative error grows with |2u| <= 88.
  const double bound = dtype == DType::f32 ? 5e-5 : 1e-12;
  for (std::int64_t i = 0; i < kCount; ++i) {
    const double x = in.get(i);
    const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
    const double expected = x * sigmoid(2 * u);
    if (std::abs(expected) < 1e-37) continue;
    ASSERT_NEAR(out.get(i), expected, bound * std::abs(expected)) << x;
  }
}

TEST_P(Elementwise, ActivationsOfHugeNumbersStayFinite) {
  OwnedTensor in(dtype, {1, 4}, {1e4, -1e4, 1e9, -1e9});
  OwnedTensor out(dtype, {1, 4});
  device.run(Activation{.out = out, .in = in});
  expect_close(out, {1e4, 0, 1e9, 0}, tolerance(dtype));
  const OwnedTensor ones(dtype, {1, 4}, {1, 1, 1, 1});
  device.run(ActivationBackward{.d_in = out, .d_out = ones, .in = in});
  expect_close(out, {1, 0, 1, 0}, tolerance(dtype));
}

TEST_P(Elementwise, ActivationPassesNanOn) {
  const OwnedTensor in(dtype, {1, 1}, {std::numeric_limits<double>::quiet_NaN()});
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::relu}) {
    OwnedTensor out(dtype, {1, 1});
    device.run(Activation{.out = out, .in = in, .kind = kind});
    EXPECT_TRUE(std::isnan(out.get(0)));
  }
}

TEST_P(Elementwise, SwiGluIsItsFormula) {
  for (const std::int64_t hidden : kOddSizes) {
    OwnedTensor in = OwnedTensor::random(dtype, {33, 2 * hidden}, 5, 2);
    OwnedTensor out(dtype, {33, hidden});
    std::vector<double> expected;
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t gate = i / hidden * 2 * hidden + i % hidden;
      expected.push_back(in.get(gate) * sigmoid(in.get(gate)) * in.get(gate + hidden));
    }
    device.run(SwiGlu{.out = out, .in = in});
    expect_close(out, expected, tolerance(dtype));
  }
}

TEST_P(Elementwise, FloatGradientsEqualThoseInDouble) {
  OwnedTensor in = OwnedTensor::random(dtype, {43, 2 * 597}, 6, 2);
  OwnedTensor d_out = OwnedTensor::random(dtype, {43, 597}, 7);
  OwnedTensor d_in(dtype, {43, 2 * 597});
  device.run(SwiGluBackward{.d_in = d_in, .d_out = d_out, .in = in});
  const OwnedTensor in64(DType::f64, {43, 2 * 597}, in.values());
  const OwnedTensor d_out64(DType::f64, {43, 597}, d_out.values());
  OwnedTensor d_in64(DType::f64, {43, 2 * 597});
  device.run(SwiGluBackward{.d_in = d_in64, .d_out = d_out64, .in = in64});
  expect_close(d_in, d_in64.values(), tolerance(dtype));
  device.run(SwiGluBackward{.d_in = in64, .d_out = d_out64, .in = in64});
  EXPECT_EQ(in64.values(), d_in64.values()) << "in place";

  const Tensor halves = in.view().reshaped({86, 597});
  const OwnedTensor halves64(DType::f64, {86, 597}, in.values());
  OwnedTensor gradient = OwnedTensor::random(dtype, {86, 597}, 8);
  OwnedTensor gradient64(DType::f64, {86, 597}, gradient.values());
  device.run(ActivationBackward{.d_in = gradient, .d_out = gradient, .in = halves});
  device.run(ActivationBackward{.d_in = gradient64, .d_out = gradient64, .in = halves64});
  expect_close(gradient, gradient64.values(), tolerance(dtype), "in place");
}

INSTANTIATE_TEST_SUITE_P(Types, Elementwise, testing::Values(DType::f32, DType::f64),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(ActivationBackward, EqualsCentralDifferences) {
  Device device = Device::cpu(1);
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::relu}) {
    OwnedTensor in = OwnedTensor::random(DType::f64, {7, 43}, 1, 2);
    const OwnedTensor d_out = OwnedTensor::random(DType::f64, {7, 43}, 2);
    OwnedTensor out(DType::f64, {7, 43});
    OwnedTensor d_in(DType::f64, {7, 43});
    device.run(ActivationBackward{.d_in = d_in, .d_out = d_out, .in = in, .kind = kind});
    const auto loss = [&] {
      device.run(Activation{.out = out, .in = in, .kind = kind});
      return test::weighted_sum(out, d_out);
    };
    expect_close(d_in, test::central_differences(in, loss), test::kDifferenceTolerance);
  }
}

TEST(SwiGluBackward, EqualsCentralDifferences) {
  Device device = Device::cpu(1);
  OwnedTensor in = OwnedTensor::random(DType::f64, {5, 2 * 33}, 1, 2);
  const OwnedTensor d_out = OwnedTensor::random(DType::f64, {5, 33}, 2);
  OwnedTensor out(DType::f64, {5, 33});
  OwnedTensor d_in(DType::f64, {5, 2 * 33});
  device.run(SwiGluBackward{.d_in = d_in, .d_out = d_out, .in = in});
  const auto loss = [&] {
    device.run(SwiGlu{.out = out, .in = in});
    return test::weighted_sum(out, d_out);
  };
  expect_close(d_in, test::central_differences(in, loss), test::kDifferenceTolerance);
}

TEST(Elementwise, GivesTheSameBitsOnAnyNumberOfThreads) {
  test::expect_same_on_any_threads([](Device& device) {
    const OwnedTensor in = OwnedTensor::random(DType::f32, {597, 258}, 1);
    const OwnedTensor d_out = OwnedTensor::random(DType::f32, {597, 129}, 2);
    OwnedTensor wide(DType::f32, {597, 258});
    OwnedTensor narrow(DType::f32, {597, 129});
    device.run(Activation{.out = wide, .in = in});
    device.run(SwiGlu{.out = narrow, .in = wide});
    device.run(Add{.out = narrow, .a = narrow, .b = d_out});
    device.run(SwiGluBackward{.d_in = wide, .d_out = narrow, .in = in});
    device.run(ActivationBackward{.d_in = wide, .d_out = wide, .in = in});
    device.run(Dropout{.out = wide, .in = wide, .rate = 0.3, .key = {.seed = 4}});
    return wide.values();
  });
}

TEST(ElementwiseContract, BrokenOnesNameTheOperand) {
  Device device = Device::cpu(1);
  const OwnedTensor matrix(DType::f32, {4, 6});
  const OwnedTensor wide(DType::f32, {4, 12});
  const OwnedTensor tall(DType::f32, {5, 6});
  const OwnedTensor other(DType::f64, {4, 6});
  const OwnedTensor integers(DType::i32, {4, 6});
  const auto expect = [&](const char* operand, const auto& operation) {
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  expect("Fill.out", Fill{.out = integers});
  expect("Fill.out", Fill{.out = wide.view().columns(0, 6)});
  expect("Add.out", Add{.out = integers, .a = integers, .b = integers});
  expect("Add.a", Add{.out = matrix, .a = tall, .b = matrix});
  expect("Add.b", Add{.out = matrix, .a = matrix, .b = other});
  expect("Activation.out", Activation{.out = wide.view().columns(0, 6), .in = matrix});
  expect("Activation.in", Activation{.out = matrix, .in = tall});
  expect("ActivationBackward.d_in", ActivationBackward{});
  expect("ActivationBackward.d_out",
         ActivationBackward{.d_in = matrix, .d_out = tall, .in = matrix});
  expect("ActivationBackward.in", ActivationBackward{.d_in = matrix, .d_out = matrix, .in = other});
  expect("SwiGlu.in", SwiGlu{.out = matrix, .in = matrix});
  expect("SwiGluBackward.d_in", SwiGluBackward{.d_in = matrix, .d_out = matrix, .in = wide});
  expect("SwiGluBackward.in", SwiGluBackward{.d_in = wide, .d_out = matrix, .in = matrix});
}

}  // namespace
}  // namespace longscan

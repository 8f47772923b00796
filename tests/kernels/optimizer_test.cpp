// AdamW, its scale and the sum of squares against their formulas.
#include "kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::OwnedTensor;
using test::tolerance;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kCounts[] = {1, 33, 63, 64, 65, 597, 16384, 50001};

class OptimizerOfType : public testing::TestWithParam<DType> {
 protected:
  const DType dtype = GetParam();
  const OwnedTensor one{DType::f64, {1}, {1}};
  Device device = Device::cpu(2);
};

TEST_P(OptimizerOfType, SumOfSquaresIsExactToDouble) {
  for (const std::int64_t count : kCounts) {
    const OwnedTensor in = OwnedTensor::random(dtype, {count}, 1);
    long double expected = 2;
    for (const double value : in.values()) expected += static_cast<long double>(value) * value;
    OwnedTensor out(DType::f64, {1}, {2});
    device.run(SumOfSquares{.out = out, .in = in});
    EXPECT_NEAR(out.get(0), static_cast<double>(expected), 1e-14 * static_cast<double>(expected));
  }
}

TEST_P(OptimizerOfType, AdamWFollowsItsFormulaOverManySteps) {
  const OwnedTensor half(DType::f64, {1}, {0.5});
  for (const std::int64_t count : kCounts) {
    OwnedTensor parameter = OwnedTensor::random(dtype, {count}, 1);
    OwnedTensor first(dtype, {count});
    OwnedTensor second(dtype, {count});
    std::vector<double> p = parameter.values();
    std::vector<double> m(p.size(), 0.0);
    std::vector<double> v(p.size(), 0.0);
    for (std::int64_t step = 1; step <= 5; ++step) {
      const OwnedTensor gradient =
          OwnedTensor::random(dtype, {count}, static_cast<std::uint64_t>(10 + step));
      device.run(AdamW{.parameter = parameter,
                       .first_moment = first,
                       .second_moment = second,
                       .gradient = gradient,
                       .gradient_scale = half,
                       .learning_rate = 0.01,
                       .beta1 = 0.8,
                       .beta2 = 0.99,
                       .epsilon = 1e-3,
                       .weight_decay = 0.2,
                       .step = step});
      for (std::size_t i = 0; i < p.size(); ++i) {
        const double g = 0.5 * gradient.get(static_cast<std::int64_t>(i));
        m[i] = 0.8 * m[i] + 0.2 * g;
        v[i] = 0.99 * v[i] + 0.01 * g * g;
        const double m_hat = m[i] / (1 - std::pow(0.8, static_cast<double>(step)));
        const double v_hat = v[i] / (1 - std::pow(0.99, static_cast<double>(step)));
        p[i] -= 0.01 * (m_hat / (std::sqrt(v_hat) + 1e-3) + 0.2 * p[i]);
      }
    }
    expect_close(parameter, p, tolerance(dtype), "parameter");
    expect_close(first, m, tolerance(dtype), "first moment");
    expect_close(second, v, tolerance(dtype), "second moment");
  }
}

TEST_P(OptimizerOfType, TheFirstStepMovesByTheLearningRateWhateverTheGradient) {
  // m / (1 - beta1) = g and v / (1 - beta2) = g^2, so the direction is the sign of g.
  const OwnedTensor gradient(dtype, {4}, {1e-3, -1e-3, 50, -50});
  OwnedTensor parameter(dtype, {4});
  OwnedTensor first(dtype, {4});
  OwnedTensor second(dtype, {4});
  device.run(AdamW{.parameter = parameter,
                   .first_moment = first,
                   .second_moment = second,
                   .gradient = gradient,
                   .gradient_scale = one,
                   .learning_rate = 0.25,
                   .epsilon = 0});
  expect_close(parameter, {-0.25, 0.25, -0.25, 0.25}, tolerance(dtype));
}

TEST_P(OptimizerOfType, WithoutGradientOnlyTheDecayActs) {
  OwnedTensor parameter(dtype, {2}, {4, -8});
  const OwnedTensor zero(dtype, {2});
  OwnedTensor first(dtype, {2});
  OwnedTensor second(dtype, {2});
  device.run(AdamW{.parameter = parameter,
                   .first_moment = first,
                   .second_moment = second,
                   .gradient = zero,
                   .gradient_scale = one,
                   .learning_rate = 0.5,
                   .weight_decay = 0.25});
  EXPECT_EQ(parameter.values(), (std::vector<double>{3.5, -7}));
}

TEST_P(OptimizerOfType, AStepWhoseScaleIsNotFiniteIsNotTaken) {
  for (const double scale : {std::nan(""), kInfinity, -kInfinity}) {
    const OwnedTensor scales(DType::f64, {1}, {scale});
    const OwnedTensor zeros(dtype, {100});
    const OwnedTensor parameter = OwnedTensor::random(dtype, {100}, 1);
    const OwnedTensor first = OwnedTensor::random(dtype, {100}, 2);
    const OwnedTensor second = OwnedTensor::random(dtype, {100}, 3);
    const std::vector<std::vector<double>> before = {parameter.values(), first.values(),
                                                     second.values()};
    device.run(AdamW{.parameter = parameter,
                     .first_moment = first,
                     .second_moment = second,
                     .gradient = zeros,
                     .gradient_scale = scales,
                     .learning_rate = 0.5,
                     .weight_decay = 0.25});
    EXPECT_EQ(before, (std::vector{parameter.values(), first.values(), second.values()})) << scale;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, OptimizerOfType, testing::Values(DType::f32, DType::f64),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(SumOfSquares, OfTinyFloatsDoesNotVanish) {
  Device device = Device::cpu(1);
  const OwnedTensor in(DType::f32, {100}, std::vector<double>(100, 1e-30));
  OwnedTensor out(DType::f64, {1});
  device.run(SumOfSquares{.out = out, .in = in});
  EXPECT_NEAR(out.get(0), 1e-58, 1e-64);
}

// {scale, norm}
std::vector<double> scaled(double squares, double targets, double clip_norm) {
  Device device = Device::cpu(1);
  const OwnedTensor out(DType::f64, {2}, {-1, -1});
  device.run(GradientScale{.scale = out.view().rows(0, 1),
                           .norm = out.view().rows(1, 2),
                           .squares = OwnedTensor(DType::f64, {1}, {squares}),
                           .targets = OwnedTensor(DType::f64, {1}, {targets}),
                           .clip_norm = clip_norm});
  return out.values();
}

TEST(GradientScale, IsOfTheMeanAndNoLongerThanTheClipNorm) {
  EXPECT_EQ(scaled(36, 4, 0), (std::vector{0.25, 1.5}));
  EXPECT_EQ(scaled(36, 4, 1.5), (std::vector{0.25, 1.5}));
  EXPECT_EQ(scaled(36, 4, 0.75), (std::vector{0.125, 1.5}));
  EXPECT_EQ(scaled(0, 4, 0.75), (std::vector{0.25, 0.0}));
}

TEST(GradientScale, IsNotANumberWhereThereIsNothingToScale) {
  const double nan = std::nan("");
  for (const double clip_norm : {0.0, 1.0}) {
    for (const auto& [squares, targets] :
         {std::pair{0.0, 0.0}, {4.0, 0.0}, {nan, 4.0}, {kInfinity, 4.0}, {kInfinity, 0.0}}) {
      const std::vector<double> found = scaled(squares, targets, clip_norm);
      EXPECT_TRUE(std::isnan(found[0])) << squares << " " << targets;
      EXPECT_FALSE(std::isfinite(found[1])) << squares << " " << targets;
    }
  }
}

TEST(Optimizer, GivesTheSameBitsOnAnyNumberOfThreads) {
  const OwnedTensor one(DType::f64, {1}, {1});
  test::expect_same_on_any_threads([&](Device& device) {
    OwnedTensor parameter = OwnedTensor::random(DType::f32, {100003}, 1);
    const OwnedTensor gradient = OwnedTensor::random(DType::f32, {100003}, 2);
    OwnedTensor first(DType::f32, {100003});
    OwnedTensor second(DType::f32, {100003});
    device.run(AdamW{.parameter = parameter,
                     .first_moment = first,
                     .second_moment = second,
                     .gradient = gradient,
                     .gradient_scale = one,
                     .learning_rate = 0.01});
    OwnedTensor sum(DType::f64, {1});
    device.run(SumOfSquares{.out = sum, .in = parameter});
    std::vector<double> all = parameter.values();
    all.push_back(sum.get(0));
    return all;
  });
}

TEST(Optimizer, EmptyBuffersAreNothing) {
  Device device = Device::cpu(2);
  const OwnedTensor one(DType::f64, {1}, {1});
  const OwnedTensor nothing(DType::f32, {0});
  OwnedTensor sum(DType::f64, {1}, {5});
  device.run(SumOfSquares{.out = sum, .in = nothing});
  EXPECT_EQ(sum.get(0), 5);
  device.run(AdamW{.parameter = nothing,
                   .first_moment = nothing,
                   .second_moment = nothing,
                   .gradient = nothing,
                   .gradient_scale = one});
}

TEST(OptimizerContract, BrokenOnesNameTheOperand) {
  Device device = Device::cpu(1);
  const OwnedTensor one(DType::f64, {1}, {1});
  const OwnedTensor four(DType::f32, {4});
  const OwnedTensor five(DType::f32, {5});
  const OwnedTensor four64(DType::f64, {4});
  const OwnedTensor integers(DType::i32, {4});
  expect_error(ErrorKind::internal, "SumOfSquares.out",
               [&] { device.run(SumOfSquares{.out = four, .in = four}); });
  expect_error(ErrorKind::internal, "SumOfSquares.in",
               [&] { device.run(SumOfSquares{.out = four64, .in = integers}); });
  const AdamW good = {.parameter = four,
                      .first_moment = four,
                      .second_moment = four,
                      .gradient = four,
                      .gradient_scale = one};
  const auto expect = [&](const char* operand, const auto& spoil) {
    AdamW operation = good;
    spoil(operation);
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  expect("AdamW.parameter", [&](AdamW& adamw) { adamw.parameter = integers; });
  expect("AdamW.first_moment", [&](AdamW& adamw) { adamw.first_moment = five; });
  expect("AdamW.second_moment", [&](AdamW& adamw) { adamw.second_moment = four64; });
  expect("AdamW.gradient", [&](AdamW& adamw) { adamw.gradient = {}; });
  expect("AdamW.gradient_scale", [&](AdamW& adamw) { adamw.gradient_scale = four64; });
  expect("AdamW.beta1", [&](AdamW& adamw) { adamw.beta1 = 1; });
  expect("AdamW.beta2", [&](AdamW& adamw) { adamw.beta2 = -0.1; });
  expect("AdamW.step", [&](AdamW& adamw) { adamw.step = 0; });
  const auto expect_scale = [&](const char* operand, const auto& spoil) {
    GradientScale operation = {.scale = one, .norm = one, .squares = one, .targets = one};
    spoil(operation);
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  expect_scale("GradientScale.scale", [&](GradientScale& scale) { scale.scale = four64; });
  expect_scale("GradientScale.norm", [&](GradientScale& scale) { scale.norm = four; });
  expect_scale("GradientScale.squares", [&](GradientScale& scale) { scale.squares = {}; });
  expect_scale("GradientScale.targets", [&](GradientScale& scale) { scale.targets = integers; });
  expect_scale("GradientScale.clip_norm", [&](GradientScale& scale) { scale.clip_norm = -1; });
}

}  // namespace
}  // namespace longscan

// The optimizer's operations on the GPU against those of the CPU in double.
#include "kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/loss.h"
#include "tests/support/cuda_case.h"
#include "tests/support/device_numbers.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;
using test::tolerance;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class OptimizerOnCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::has_cuda()) GTEST_SKIP() << "there is no GPU";
  }

  Device cpu = Device::cpu(1);
};

TEST_F(OptimizerOnCuda, SumOfSquaresIsExactToDouble) {
  Device gpu = Device::cuda(0);
  for (const std::int64_t count : {0, 1, 33, 4096, 16384, 16385, 100003}) {
    for (const std::int64_t first : {0, 1}) {
      const OwnedTensor in = OwnedTensor::random(DType::f32, {count + first}, 1);
      long double expected = 2;
      for (std::int64_t i = first; i < count + first; ++i) {
        expected += static_cast<long double>(in.get(i)) * in.get(i);
      }
      OwnedTensor out(DType::f64, {1}, {2});
      OnCuda(gpu, {&out, &in})
          .run(SumOfSquares{.out = out, .in = in.view().rows(first, first + count)});
      EXPECT_NEAR(out.get(0), static_cast<double>(expected), 1e-14 * static_cast<double>(expected));
    }
  }
}

TEST_F(OptimizerOnCuda, AdamWFollowsTheCpuInDoubleOverManySteps) {
  Device gpu = Device::cuda(0);
  const OwnedTensor half(DType::f64, {1}, {0.5});
  for (const std::int64_t count : {0, 1, 33, 64, 1001}) {
    for (const bool rounds : {true, false}) {
      const OwnedTensor parameter = OwnedTensor::random(DType::f32, {count}, 1);
      const OwnedTensor first(DType::f32, {count});
      const OwnedTensor second(DType::f32, {count});
      const OwnedTensor rounded(DType::bf16, {count});
      const OwnedTensor parameter64 = in_double(parameter);
      const OwnedTensor first64 = in_double(first);
      const OwnedTensor second64 = in_double(second);
      for (std::int64_t step = 1; step <= 4; ++step) {
        const OwnedTensor gradient =
            OwnedTensor::random(DType::f32, {count}, static_cast<std::uint64_t>(10 + step));
        const OwnedTensor gradient64 = in_double(gradient);
        AdamW adamw{.parameter = parameter,
                    .first_moment = first,
                    .second_moment = second,
                    .gradient = gradient,
                    .gradient_scale = half,
                    .rounded = rounds ? rounded.view() : Tensor{},
                    .learning_rate = 0.01,
                    .beta1 = 0.8,
                    .beta2 = 0.99,
                    .epsilon = 1e-3,
                    .weight_decay = 0.2,
                    .step = step};
        OnCuda(gpu, {&parameter, &first, &second, &gradient, &half, &rounded}).run(adamw);
        adamw.parameter = parameter64;
        adamw.first_moment = first64;
        adamw.second_moment = second64;
        adamw.gradient = gradient64;
        adamw.rounded = {};
        cpu.run(adamw);
      }
      expect_close(parameter, parameter64.values(), tolerance(DType::f32), "parameter");
      expect_close(first, first64.values(), tolerance(DType::f32), "first moment");
      expect_close(second, second64.values(), tolerance(DType::f32), "second moment");
      const OwnedTensor expected(DType::bf16, {count}, parameter.values());
      const OwnedTensor nothing(DType::bf16, {count});
      EXPECT_EQ(rounded.values(), rounds ? expected.values() : nothing.values());
    }
  }
}

TEST_F(OptimizerOnCuda, AStepWhoseScaleIsNotFiniteIsNotTaken) {
  Device gpu = Device::cuda(0);
  for (const double scale : {std::nan(""), kInfinity, -kInfinity}) {
    const OwnedTensor scales(DType::f64, {1}, {scale});
    const OwnedTensor zeros(DType::f32, {100});
    const OwnedTensor parameter = OwnedTensor::random(DType::f32, {100}, 1);
    const OwnedTensor first = OwnedTensor::random(DType::f32, {100}, 2);
    const OwnedTensor second = OwnedTensor::random(DType::f32, {100}, 3);
    const OwnedTensor rounded(DType::bf16, {100});
    const auto values = [&] {
      return std::vector{parameter.values(), first.values(), second.values(), rounded.values()};
    };
    const std::vector<std::vector<double>> before = values();
    OnCuda(gpu, {&parameter, &first, &second, &zeros, &scales, &rounded})
        .run(AdamW{.parameter = parameter,
                   .first_moment = first,
                   .second_moment = second,
                   .gradient = zeros,
                   .gradient_scale = scales,
                   .rounded = rounded,
                   .learning_rate = 0.5,
                   .weight_decay = 0.25});
    EXPECT_EQ(before, values()) << scale;
  }
}

TEST_F(OptimizerOnCuda, GradientScaleIsTheCpus) {
  Device gpu = Device::cuda(0);
  const double nan = std::nan("");
  for (const double clip_norm : {0.0, 0.7, 5.0}) {
    for (const auto& [squares, targets] :
         {std::pair{17.0, 3.0}, {0.0, 3.0}, {0.0, 0.0}, {4.0, 0.0}, {nan, 4.0}, {kInfinity, 4.0}}) {
      const OwnedTensor in(DType::f64, {2}, {squares, targets});
      const OwnedTensor out(DType::f64, {2});
      const OwnedTensor expected(DType::f64, {2});
      GradientScale operation{.scale = out.view().rows(0, 1),
                              .norm = out.view().rows(1, 2),
                              .squares = in.view().rows(0, 1),
                              .targets = in.view().rows(1, 2),
                              .clip_norm = clip_norm};
      OnCuda(gpu, {&in, &out}).run(operation);
      operation.scale = expected.view().rows(0, 1);
      operation.norm = expected.view().rows(1, 2);
      cpu.run(operation);
      for (const std::int64_t i : {0, 1}) {
        const bool same = out.get(i) == expected.get(i) ||
                          (std::isnan(out.get(i)) && std::isnan(expected.get(i)));
        EXPECT_TRUE(same) << out.get(i) << " for " << expected.get(i);
      }
    }
  }
}

TEST_F(OptimizerOnCuda, NoStepIsTakenBehindBadData) {
  Device gpu = Device::cuda(0);
  const test::DeviceNumbers<double> numbers(gpu, {1, 1, 9, 2});
  const test::DeviceNumbers<float> table(gpu, {1, 2, 3});
  const test::DeviceNumbers<float> found(gpu, {0});
  const test::DeviceNumbers<std::int32_t> index(gpu, {7});
  gpu.run(Embedding{.out = found.tensor().reshaped({1, 1}),
                    .table = table.tensor().reshaped({3, 1}),
                    .index = index.tensor()});
  const auto number = [&](std::int64_t i) { return numbers.tensor().rows(i, i + 1); };
  gpu.run(MarkBadData{number(3)});
  gpu.run(GradientScale{
      .scale = number(0), .norm = number(1), .squares = number(2), .targets = number(3)});
  expect_error(ErrorKind::data, "index 7", [&] { gpu.synchronize(); });
  EXPECT_TRUE(std::isnan(numbers.numbers()[0]));
  EXPECT_TRUE(std::isnan(numbers.numbers()[3]));
  // What was told is over.
  gpu.run(Fill{.out = number(3), .value = 2});
  gpu.run(MarkBadData{number(3)});
  EXPECT_EQ(numbers.numbers()[3], 2);
}

TEST_F(OptimizerOnCuda, RefusesParametersInDouble) {
  Device gpu = Device::cuda(0);
  const OwnedTensor four(DType::f64, {4});
  const OwnedTensor sum(DType::f64, {1});
  expect_error(ErrorKind::internal, "parameters on the GPU are f32", [&] {
    OnCuda(gpu, {&four, &sum}).run(SumOfSquares{.out = sum, .in = four});
  });
}

}  // namespace
}  // namespace longscan

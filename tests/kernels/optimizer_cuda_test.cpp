// The optimizer's operations on the GPU against those of the CPU in double.
#include "kernels/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/cuda_case.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;
using test::tolerance;

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
                    .rounded = rounds ? rounded.view() : Tensor{},
                    .learning_rate = 0.01,
                    .beta1 = 0.8,
                    .beta2 = 0.99,
                    .epsilon = 1e-3,
                    .weight_decay = 0.2,
                    .gradient_scale = 0.5,
                    .step = step};
        OnCuda(gpu, {&parameter, &first, &second, &gradient, &rounded}).run(adamw);
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

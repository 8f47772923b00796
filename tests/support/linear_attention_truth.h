// Linear attention on a GPU held against the truth: its definition, or the CPU in double.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "tests/support/linear_attention_on_cuda.h"

namespace longscan::test {

/// How far from the truth results may be, relative to the largest numbers.
struct Precision {
  DType dtype;
  double outputs;
  double gradients;
};
constexpr Precision kSingle{DType::f32, 1e-5, 2e-5};
/// Outputs and gradients are rounded themselves, to 4e-3 of their size at worst.
constexpr Precision kHalf{DType::bf16, 6e-3, 1.5e-2};

inline std::string about(const AttentionShape& shape, const AttentionForm& form) {
  return std::to_string(shape.tokens) + " tokens, dim " + std::to_string(shape.dim) + ", " +
         describe(form);
}

inline double gradient_error(const std::vector<double>& got, const std::vector<double>& expected) {
  return worst_relative(got, expected, 0.1);
}

/// Outputs and gradients of a whole line.
inline void expect_truth(Device& device, const Precision& precision, const AttentionOperands& exact,
                         bool leaves_checkpoints = false) {
  const AttentionOperands operands = rounded(exact, precision.dtype);
  SCOPED_TRACE(about(operands.shape, operands.form) +
               (precision.dtype == DType::bf16 ? ", bf16" : ", f32"));
  AttentionTensors<double> truth(operands);
  truth.run();
  AttentionOnCuda gpu(device, precision.dtype, operands);
  gpu.leaves_checkpoints = leaves_checkpoints;
  gpu.forward();
  // The definition takes the square of the tokens.
  const bool is_short = operands.shape.tokens <= 300;
  EXPECT_LT(worst_relative(gpu.out(), is_short ? operands.definition() : truth.get(truth.out)),
            precision.outputs);
  gpu.backward();
  EXPECT_LT(gradient_error(gpu.d_query(), truth.get(truth.d_query)), precision.gradients);
  EXPECT_LT(gradient_error(gpu.d_key(), truth.get(truth.d_key)), precision.gradients);
  EXPECT_LT(gradient_error(gpu.d_value(), truth.get(truth.d_value)), precision.gradients);
}

/// A GPU to test on.
class OnFirstGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << "no GPU";
    device_.emplace(Device::cuda(0));
  }
  Device& device() { return *device_; }

 private:
  std::optional<Device> device_;
};

}  // namespace longscan::test

// Linear attention on the GPU against its O(n^2) definition and the CPU in double, for every feature
// map, causal and not, with masked keys and without.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/linear_attention_on_cuda.h"

namespace longscan::test {
namespace {

using Shape = AttentionShape;
using Operands = AttentionOperands;

struct Precision {
  DType dtype;
  double outputs;
  double gradients;
};
constexpr Precision kSingle{DType::f32, 1e-5, 2e-5};
// Outputs and gradients are rounded themselves, to 4e-3 of their size at worst.
constexpr Precision kHalf{DType::bf16, 6e-3, 1.5e-2};

std::string about(const Shape& shape, const AttentionForm& form) {
  return std::to_string(shape.tokens) + " tokens, dim " + std::to_string(shape.dim) + ", " +
         describe(form);
}

// Outputs and gradients of a whole line.
void expect_truth(Device& device, const Precision& precision, const Operands& exact) {
  const Operands operands = rounded(exact, precision.dtype);
  const std::string what = about(operands.shape, operands.form);
  AttentionTensors<double> truth(operands);
  truth.run();
  AttentionOnCuda gpu(device, precision.dtype, operands);
  gpu.forward();
  EXPECT_LT(worst_relative(gpu.out(), operands.definition()), precision.outputs) << what;
  gpu.backward_query();
  EXPECT_LT(worst_relative(gpu.d_query(), truth.get(truth.d_query)), precision.gradients) << what;
  gpu.backward_key_value();
  EXPECT_LT(worst_relative(gpu.d_key(), truth.get(truth.d_key)), precision.gradients) << what;
  EXPECT_LT(worst_relative(gpu.d_value(), truth.get(truth.d_value)), precision.gradients) << what;
}

class LinearAttentionOnCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << "no GPU";
    device_.emplace(Device::cuda(0));
  }
  Device& device() { return *device_; }

 private:
  std::optional<Device> device_;
};

TEST_F(LinearAttentionOnCuda, First) {
  const Shape shape{70, 1, 8, 8, {}};
  expect_truth(device(), kSingle, Operands(shape, {}));
  expect_truth(device(), kHalf, Operands(shape, {}));
}

TEST_F(LinearAttentionOnCuda, IsTheDefinition) {
  // Documents on, before and behind the borders of chunks, of one token; rows with 16-byte accesses
  // and without; several pieces.
  for (const Shape& shape : {Shape{1, 1, 1, 1, {}}, Shape{43, 2, 16, 33, {0, 1, 2, 42}},
                             Shape{300, 1, 24, 8, {63, 64, 65, 128, 191, 255}}}) {
    for (const AttentionForm& form : all_forms()) {
      for (const Precision& precision : {kSingle, kHalf}) {
        expect_truth(device(), precision, Operands(shape, form));
      }
    }
  }
}

}  // namespace
}  // namespace longscan::test

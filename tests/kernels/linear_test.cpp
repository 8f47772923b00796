// Matrix products against the triple loop in double.
#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/random.h"
#include "tests/support/finite_differences.h"

namespace longscan {
namespace {

template <class T>
class LinearTest : public ::testing::Test {
 protected:
  // A random matrix with a gap of three elements behind each row.
  Tensor matrix(std::int64_t rows, std::int64_t columns) {
    memory_.push_back(
        device_.allocate(rows * (columns + 3) * static_cast<std::int64_t>(sizeof(T))));
    const Tensor wide =
        Tensor::dense(memory_.back().data(), DTypeOf<T>::value, {rows, columns + 3});
    for (std::int64_t i = 0; i < wide.size(); ++i) {
      wide.as<T>()[i] = static_cast<T>(
          random_normal({2, RandomPurpose::sample, memory_.size()}, static_cast<std::uint64_t>(i)));
    }
    return wide.columns(0, columns);
  }
  Tensor vector(std::int64_t size) { return matrix(1, size).at(0); }
  static double at(const Tensor& m, std::int64_t row, std::int64_t column,
                   bool transposed = false) {
    return transposed ? m.as<T>()[column * m.stride[0] + row]
                      : m.as<T>()[row * m.stride[0] + column];
  }
  static double tolerance(std::int64_t depth) {
    return (sizeof(T) == 4 ? 1e-6 : 1e-14) * (4 + static_cast<double>(depth));
  }

  Device device_ = Device::cpu(2);
  std::vector<Buffer> memory_;
};

using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LinearTest, Types);

TYPED_TEST(LinearTest, MatMulIsTheTripleLoop) {
  for (const auto [m, n, k] : {std::array<std::int64_t, 3>{1, 1, 1},
                               {33, 43, 5},
                               {5, 597, 33},
                               {597, 33, 43},
                               {64, 64, 0}}) {
    for (const int flags : {0, 1, 2, 3, 4, 7}) {
      const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4;
      const Tensor out = this->matrix(m, n);
      const Tensor a = ta ? this->matrix(k, m) : this->matrix(m, k);
      const Tensor b = tb ? this->matrix(n, k) : this->matrix(k, n);
      std::vector<double> expected(m * n);
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          double sum = accumulate ? this->at(out, i, j) : 0;
          for (std::int64_t p = 0; p < k; ++p) sum += this->at(a, i, p, ta) * this->at(b, p, j, tb);
          expected[i * n + j] = sum;
        }
      }
      this->device_.run(MatMul{.out = out,
                               .a = a,
                               .b = b,
                               .transpose_a = ta,
                               .transpose_b = tb,
                               .accumulate = accumulate});
      for (std::int64_t i = 0; i < m * n; ++i) {
        ASSERT_NEAR(this->at(out, i / n, i % n), expected[i], this->tolerance(k))
            << m << "x" << n << "x" << k << " flags " << flags;
      }
    }
  }
}

TYPED_TEST(LinearTest, LinearAddsItsBias) {
  const std::int64_t tokens = 131, inputs = 33, outputs = 43;
  const Tensor out = this->matrix(tokens, outputs);
  const Tensor in = this->matrix(tokens, inputs);
  const Tensor weight = this->matrix(outputs, inputs);
  const Tensor bias = this->vector(outputs);
  this->device_.run(Linear{.out = out, .in = in, .weight = weight, .bias = bias});
  for (std::int64_t i = 0; i < tokens; ++i) {
    for (std::int64_t j = 0; j < outputs; ++j) {
      double sum = bias.as<TypeParam>()[j];
      for (std::int64_t p = 0; p < inputs; ++p) sum += this->at(in, i, p) * this->at(weight, j, p);
      ASSERT_NEAR(this->at(out, i, j), sum, this->tolerance(inputs));
    }
  }
}

TYPED_TEST(LinearTest, WeightGradientsAreAddedUp) {
  const std::int64_t tokens = 597, inputs = 5, outputs = 33;
  const Tensor d_out = this->matrix(tokens, outputs);
  const Tensor in = this->matrix(tokens, inputs);
  const Tensor d_weight = this->matrix(outputs, inputs);
  const Tensor d_bias = this->vector(outputs);
  std::vector<double> weight(outputs * inputs), bias(outputs);
  for (std::int64_t j = 0; j < outputs; ++j) {
    bias[j] = d_bias.as<TypeParam>()[j];
    for (std::int64_t t = 0; t < tokens; ++t) bias[j] += this->at(d_out, t, j);
    for (std::int64_t i = 0; i < inputs; ++i) {
      double sum = this->at(d_weight, j, i);
      for (std::int64_t t = 0; t < tokens; ++t) sum += this->at(d_out, t, j) * this->at(in, t, i);
      weight[j * inputs + i] = sum;
    }
  }
  this->device_.run(
      LinearBackwardWeight{.d_weight = d_weight, .d_bias = d_bias, .d_out = d_out, .in = in});
  for (std::int64_t j = 0; j < outputs; ++j) {
    ASSERT_NEAR(d_bias.as<TypeParam>()[j], bias[j], this->tolerance(tokens));
    for (std::int64_t i = 0; i < inputs; ++i) {
      ASSERT_NEAR(this->at(d_weight, j, i), weight[j * inputs + i], this->tolerance(tokens));
    }
  }
}

TEST(Linear, GradientsAreCentralDifferences) {
  using test::OwnedTensor;
  Device device = Device::cpu(2);
  OwnedTensor in = OwnedTensor::random(DType::f64, {7, 5}, 1);
  OwnedTensor weight = OwnedTensor::random(DType::f64, {4, 5}, 2);
  OwnedTensor bias = OwnedTensor::random(DType::f64, {4}, 3);
  const OwnedTensor d_out = OwnedTensor::random(DType::f64, {7, 4}, 4);
  OwnedTensor out(DType::f64, {7, 4});
  OwnedTensor d_in(DType::f64, {7, 5}), d_weight(DType::f64, {4, 5}), d_bias(DType::f64, {4});
  device.run(MatMul{.out = d_in, .a = d_out, .b = weight});
  device.run(
      LinearBackwardWeight{.d_weight = d_weight, .d_bias = d_bias, .d_out = d_out, .in = in});
  const auto loss = [&] {
    device.run(Linear{.out = out, .in = in, .weight = weight, .bias = bias});
    return test::weighted_sum(out, d_out);
  };
  const double tolerance = test::kDifferenceTolerance;
  test::expect_close(d_in, test::central_differences(in, loss), tolerance);
  test::expect_close(d_weight, test::central_differences(weight, loss), tolerance);
  test::expect_close(d_bias, test::central_differences(bias, loss), tolerance);
}

TEST(Linear, BrokenContractsNameTheOperand) {
  Device device = Device::cpu(1);
  std::vector<float> memory(100);
  const Tensor square = Tensor::dense(memory.data(), DType::f32, {4, 4});
  const Tensor tall = Tensor::dense(memory.data(), DType::f32, {5, 4});
  try {
    device.run(MatMul{.out = square, .a = square, .b = tall});
    FAIL() << "a product of 4x4 and 5x4 was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("MatMul.b is f32[5, 4]"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace longscan

// Matrix products on the GPU against the triple loop in double.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/linear.h"
#include "tests/support/on_cuda.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::has_cuda;
using test::OnCuda;
using test::OwnedTensor;

// A matrix in memory that is wider, and whose first number may be the second there.
struct Matrix {
  OwnedTensor memory;
  Tensor view;

  Matrix(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed,
         std::int64_t gap = 3, std::int64_t before = 0)
      : memory(OwnedTensor::random(dtype, {rows, before + columns + gap}, seed)),
        view(memory.view().columns(before, before + columns)) {}

  std::int64_t index(std::int64_t row, std::int64_t column) const {
    return (view.data == nullptr ? 0 : view.as<char>() - memory.view().as<char>()) /
               size_of(view.dtype) +
           row * view.stride[0] + column;
  }
  double at(std::int64_t row, std::int64_t column, bool transposed = false) const {
    return memory.get(transposed ? index(column, row) : index(row, column));
  }
};

// Numbers of a product of `depth` numbers of size one each.
double tolerance(DType dtype, std::int64_t depth) {
  return dtype == DType::bf16 ? 8e-3 : 1e-6 * (4 + static_cast<double>(depth));
}

// What lies between the rows must stay what it was.
void expect_gaps_kept(const Matrix& matrix, const std::vector<double>& before) {
  for (std::int64_t i = 0; i < matrix.memory.size(); ++i) {
    const std::int64_t width = matrix.memory.view().shape[1];
    const std::int64_t column = i % width - matrix.index(0, 0);
    if (column >= 0 && column < matrix.view.shape[1]) continue;
    ASSERT_EQ(matrix.memory.get(i), before[static_cast<std::size_t>(i)]) << i;
  }
}

void expect_product(Device& device, DType dtype, const std::array<std::int64_t, 3>& size, int flags,
                    std::int64_t gap) {
  const auto [m, n, k] = size;
  const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4;
  const std::int64_t before = gap % 2;
  const Matrix out(dtype, m, n, 1, gap, before);
  const Matrix a(dtype, ta ? k : m, ta ? m : k, 2, gap, before);
  const Matrix b(dtype, tb ? n : k, tb ? k : n, 3, gap, before);
  const std::vector<double> old = out.memory.values();
  std::vector<double> expected;
  for (std::int64_t i = 0; i < m * n; ++i) {
    double sum = accumulate ? out.at(i / n, i % n) : 0;
    for (std::int64_t p = 0; p < k; ++p) sum += a.at(i / n, p, ta) * b.at(p, i % n, tb);
    expected.push_back(sum);
  }
  OnCuda(device, {&out.memory, &a.memory, &b.memory})
      .run(MatMul{.out = out.view,
                  .a = a.view,
                  .b = b.view,
                  .transpose_a = ta,
                  .transpose_b = tb,
                  .accumulate = accumulate});
  for (std::int64_t i = 0; i < m * n; ++i) {
    const double truth = expected[static_cast<std::size_t>(i)];
    ASSERT_NEAR(out.at(i / n, i % n), truth, tolerance(dtype, k) * std::max(1.0, std::abs(truth)))
        << name_of(dtype) << " " << m << "x" << n << "x" << k << " flags " << flags;
  }
  expect_gaps_kept(out, old);
}

TEST(LinearOnCuda, MatMulIsTheTripleLoop) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::array<std::int64_t, 3>& size : {std::array<std::int64_t, 3>{1, 1, 1},
                                                    {33, 43, 5},
                                                    {5, 197, 33},
                                                    {97, 33, 43},
                                                    {64, 64, 64},
                                                    {16, 24, 0}}) {
      for (const int flags : {0, 1, 2, 3, 4, 7}) {
        for (const std::int64_t gap : {0, 3, 8}) expect_product(device, dtype, size, flags, gap);
      }
    }
  }
}

TEST(LinearOnCuda, ProductsOfNothingAreLeftAlone) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const std::array<std::int64_t, 3>& size :
       {std::array<std::int64_t, 3>{0, 3, 4}, {3, 0, 4}, {0, 0, 0}}) {
    expect_product(device, DType::bf16, size, 0, 0);
  }
}

TEST(LinearOnCuda, LinearAddsItsBias) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const std::int64_t inputs : {33, 0, 64}) {
      for (const std::int64_t outputs : {43, 32}) {
        const std::int64_t tokens = 51;
        const Matrix out(dtype, tokens, outputs, 1);
        const Matrix in(dtype, tokens, inputs, 2);
        const Matrix weight(dtype, outputs, inputs, 3, 0);
        // A vector among others, as in a flat buffer of parameters.
        const Matrix bias(sum_type(dtype), 1, outputs, 4, 1, 1);
        OnCuda(device, {&out.memory, &in.memory, &weight.memory, &bias.memory})
            .run(Linear{
                .out = out.view, .in = in.view, .weight = weight.view, .bias = bias.view.at(0)});
        for (std::int64_t i = 0; i < tokens * outputs; ++i) {
          const std::int64_t row = i / outputs, column = i % outputs;
          double sum = bias.at(0, column);
          for (std::int64_t p = 0; p < inputs; ++p) sum += in.at(row, p) * weight.at(column, p);
          ASSERT_NEAR(out.at(row, column), sum,
                      tolerance(dtype, inputs) * std::max(1.0, std::abs(sum)))
              << name_of(dtype) << " " << inputs << " to " << outputs;
        }
      }
    }
  }
}

void expect_weight_gradient(Device& device, DType dtype, std::int64_t tokens, std::int64_t inputs,
                            std::int64_t outputs, std::int64_t gap) {
  const DType sums = sum_type(dtype);
  const Matrix d_weight(sums, outputs, inputs, 1, 0);
  const Matrix d_bias(sums, 1, outputs, 2);
  const Matrix d_out(dtype, tokens, outputs, 3, gap);
  const Matrix in(dtype, tokens, inputs, 4, gap);
  std::vector<double> weight, bias;
  for (std::int64_t j = 0; j < outputs; ++j) {
    bias.push_back(d_bias.at(0, j));
    for (std::int64_t t = 0; t < tokens; ++t) bias.back() += d_out.at(t, j);
    for (std::int64_t i = 0; i < inputs; ++i) {
      weight.push_back(d_weight.at(j, i));
      for (std::int64_t t = 0; t < tokens; ++t) weight.back() += d_out.at(t, j) * in.at(t, i);
    }
  }
  OnCuda(device, {&d_weight.memory, &d_bias.memory, &d_out.memory, &in.memory})
      .run(LinearBackwardWeight{.d_weight = d_weight.view,
                                .d_bias = d_bias.view.at(0),
                                .d_out = d_out.view,
                                .in = in.view});
  // Sums are f32 for both types: products of two bf16 have no rounding of their own.
  const double allowed = tolerance(DType::f32, tokens);
  expect_close(d_weight.memory, weight, allowed, "d_weight");
  for (std::int64_t j = 0; j < outputs; ++j) {
    ASSERT_NEAR(d_bias.at(0, j), bias[static_cast<std::size_t>(j)], allowed)
        << name_of(dtype) << " " << tokens << " tokens, " << outputs << " outputs";
  }
}

TEST(LinearOnCuda, WeightGradientsAreAddedUp) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    expect_weight_gradient(device, dtype, 597, 5, 33, 3);
    expect_weight_gradient(device, dtype, 260, 16, 304, 8);
    expect_weight_gradient(device, dtype, 1, 3, 1, 0);
    expect_weight_gradient(device, dtype, 0, 3, 8, 0);
  }
}

TEST(LinearOnCuda, SumsOfManyRowsAreOfTheSameBitsEveryTime) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  // More than 512 blocks of 256 rows.
  const std::int64_t tokens = 512 * 256 + 1000;
  const Matrix d_out(DType::bf16, tokens, 3, 1, 0), in(DType::bf16, tokens, 1, 2, 0);
  std::vector<double> first;
  for (int run = 0; run < 2; ++run) {
    const OwnedTensor d_weight(DType::f32, {3, 1}), d_bias(DType::f32, {3});
    OnCuda(device, {&d_weight, &d_bias, &d_out.memory, &in.memory})
        .run(LinearBackwardWeight{
            .d_weight = d_weight, .d_bias = d_bias, .d_out = d_out.view, .in = in.view});
    if (run == 0) {
      first = d_bias.values();
      std::vector<double> expected(3);
      for (std::int64_t i = 0; i < 3 * tokens; ++i) {
        expected[static_cast<std::size_t>(i % 3)] += d_out.memory.get(i);
      }
      expect_close(d_bias, expected, 1e-4);
    }
    EXPECT_EQ(d_bias.values(), first);
  }
}

TEST(LinearOnCuda, WithTf32ProductsOfF32AreNearlyTheSame) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0, {.tf32 = true});
  const Matrix out(DType::f32, 33, 24, 1), a(DType::f32, 33, 64, 2), b(DType::f32, 64, 24, 3);
  OnCuda(device, {&out.memory, &a.memory, &b.memory})
      .run(MatMul{.out = out.view, .a = a.view, .b = b.view});
  for (std::int64_t i = 0; i < 33 * 24; ++i) {
    double sum = 0;
    for (std::int64_t p = 0; p < 64; ++p) sum += a.at(i / 24, p) * b.at(p, i % 24);
    ASSERT_NEAR(out.at(i / 24, i % 24), sum, 3e-2);
  }
}

TEST(LinearOnCuda, DoubleIsRefused) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  const OwnedTensor square(DType::f64, {2, 2});
  expect_error(ErrorKind::internal, "the GPU computes in f32 and bf16", [&] {
    OnCuda(device, {&square}).run(MatMul{.out = square, .a = square, .b = square});
  });
}

}  // namespace
}  // namespace longscan

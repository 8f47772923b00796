// Exact softmax attention on the GPU against its definition in double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "kernels/softmax_attention.h"
#include "tests/support/on_cuda.h"
#include "tests/support/softmax_case.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::has_cuda;
using test::OnCuda;
using test::OwnedTensor;
using test::SoftmaxCase;
using test::SoftmaxShape;
using Pieces = SoftmaxCase::Pieces;

// Sizes around the tiles of the kernels, and heads of every padded size, in rows of whole vectors
// and in others; documents of one token, on borders of tiles, and begun before the block.
const std::vector<SoftmaxShape> kShapes = {
    {1, 1, 1},
    {33, 2, 5},
    {43, 3, 16, {-7, 1, 2, 42}, 1000},
    {130, 2, 7, {-64, 64, 128, 129}, 64},
    {100, 1, 40, {0, 31, 32, 64, 65, 96}},
    {150, 2, 24, {-1, 63}, 5},
    {37, 1, 104, {0, 20}},
    {35, 1, 200},
};

void forward_and_backward(Device& device, SoftmaxCase& c) {
  OnCuda cuda(device, c.tensors());
  c.forward(cuda), c.backward(cuda);
}

void expect_log_sums(const SoftmaxCase& c, const std::vector<double>& expected, double tolerance) {
  for (std::int64_t i = 0; i < c.log_sum.size(); ++i) {
    const double truth = expected[static_cast<std::size_t>(i)];
    if (std::isinf(truth)) {
      ASSERT_EQ(c.log_sum.get(i), truth) << i;
    } else {
      ASSERT_NEAR(c.log_sum.get(i), truth, tolerance) << i;
    }
  }
}

// To the rounding of sums of a hundred numbers; weights are rounded to bf16 before they are summed.
void expect_definition(const SoftmaxCase& c) {
  const bool bf16 = c.out.view().dtype == DType::bf16;
  const SoftmaxCase::Definition definition = c.definition();
  expect_close(c.out, definition.out, bf16 ? 1e-2 : 1e-5, "out");
  expect_log_sums(c, definition.log_sum, 1e-5);
  expect_close(c.d_joint, definition.d_joint, bf16 ? 3e-2 : 3e-5, "gradients");
}

TEST(SoftmaxAttentionOnCuda, IsItsDefinitionForBothTypesAndOddSizes) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const SoftmaxShape& shape : kShapes) {
    for (const bool causal : {true, false}) {
      for (const bool masked : {false, true}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
          SCOPED_TRACE(std::to_string(shape.tokens) + " tokens" + (causal ? ", causal" : "") +
                       (masked ? ", masked, " : ", ") + name_of(dtype));
          SoftmaxCase c(dtype, shape, causal);
          c.masked = masked;
          forward_and_backward(device, c);
          expect_definition(c);
        }
      }
    }
  }
}

TEST(SoftmaxAttentionOnCuda, BlocksOfKeysInAnyOrderAreOneBlock) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const bool causal : {true, false}) {
    SoftmaxCase c(DType::f32, {130, 2, 7, {-64, 64, 128, 129}, 64}, causal);
    c.masked = true;
    OnCuda cuda(device, c.tensors());
    const Pieces queries = {{0, 0}, {0, 50}, {50, 130}}, keys = {{70, 130}, {20, 70}, {0, 20}};
    c.forward(cuda, queries, keys), c.backward(cuda, queries, keys);
    expect_definition(c);
  }
}

TEST(SoftmaxAttentionOnCuda, WhatComesLaterChangesNothing) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  constexpr std::int64_t kFirstChanged = 50;  // within a tile
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SoftmaxCase before(dtype, {90, 2, 9}, true), after(dtype, {90, 2, 9}, true);
    for (std::int64_t i = kFirstChanged * 3 * 2 * 9; i < after.joint.size(); ++i) {
      after.joint.set(i, 1e30 * after.joint.get(i));
    }
    for (SoftmaxCase* c : {&before, &after}) {
      OnCuda cuda(device, c->tensors());
      c->forward(cuda);
    }
    for (std::int64_t i = 0; i < kFirstChanged * 2 * 9; ++i) {
      ASSERT_EQ(after.out.get(i), before.out.get(i));
    }
  }
}

TEST(SoftmaxAttentionOnCuda, WhatStandsInMaskedKeysDoesNotMatter) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const std::int64_t dim : {7, 8}) {
    for (const double content : {1e9, -HUGE_VAL, std::nan("")}) {
      SoftmaxCase expected(DType::f32, {70, 2, dim}, true);
      SoftmaxCase c(DType::f32, {70, 2, dim}, true);
      const std::int64_t width = 2 * dim;
      for (std::int64_t i = 0; i < 70; ++i) {
        if (c.mask.get(i) != 0) continue;
        for (std::int64_t n = width; n < 3 * width; ++n) c.joint.set(3 * width * i + n, content);
      }
      for (SoftmaxCase* each : {&expected, &c}) {
        each->masked = true;
        forward_and_backward(device, *each);
      }
      EXPECT_EQ(c.out.values(), expected.out.values());
      EXPECT_EQ(c.log_sum.values(), expected.log_sum.values());
      EXPECT_EQ(c.d_joint.values(), expected.d_joint.values());
    }
  }
}

TEST(SoftmaxAttentionOnCuda, QueriesThatSeeNoKeyGetZeros) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const bool causal : {true, false}) {
    SoftmaxCase c(DType::f32, {70, 2, 6, {0, 3, 60}}, causal);
    c.masked = true;
    for (std::int64_t i = 0; i < 70; ++i) c.mask.set(i, i < 3 || (i >= 60 && i < 65) ? 0 : 1);
    forward_and_backward(device, c);
    expect_definition(c);
    for (std::int64_t i = 0; i < 3 * 2 * 6; ++i) ASSERT_EQ(c.out.get(i), 0);
    for (std::int64_t i = 0; i < 3 * 2; ++i) ASSERT_EQ(c.log_sum.get(i), -HUGE_VAL);
  }
}

TEST(SoftmaxAttentionOnCuda, HugeScoresStayFiniteAndNanIsNotSwallowed) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SoftmaxCase huge(dtype, {70, 1, 16}, true);
    for (std::int64_t i = 0; i < huge.joint.size(); ++i) huge.joint.set(i, 1e3 * huge.joint.get(i));
    forward_and_backward(device, huge);
    for (const OwnedTensor* each : {&huge.out, &huge.log_sum, &huge.d_joint}) {
      for (const double x : each->values()) ASSERT_TRUE(std::isfinite(x));
    }
    for (const std::int64_t which : {0, 1, 2}) {
      SoftmaxCase c(dtype, {5, 1, 16}, true);
      c.joint.set(c.index(which, 2, 0) + 1, std::nan(""));
      OnCuda cuda(device, c.tensors());
      c.forward(cuda);
      EXPECT_TRUE(std::isnan(c.out.get(2 * 16 + 1)));
    }
  }
}

TEST(SoftmaxAttentionOnCuda, GradientsAreAdded) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const std::int64_t dim : {7, 8}) {
    SoftmaxCase c(DType::f32, {50, 2, dim, {0, 20}}, true);
    forward_and_backward(device, c);
    std::vector<double> twice = c.d_joint.values();
    for (double& x : twice) x *= 2;
    OnCuda cuda(device, c.tensors());
    c.backward(cuda, c.whole(), {{0, 50}, {0, 50}});
    expect_close(c.d_joint, twice, 1e-6);
  }
}

TEST(SoftmaxAttentionOnCuda, BlocksWithoutTokensChangeNothing) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  SoftmaxCase none(DType::f32, {0, 2, 4}, true);
  forward_and_backward(device, none);
  SoftmaxCase c(DType::f32, {33, 2, 5}, false);
  forward_and_backward(device, c);
  const std::vector<double> out = c.out.values(), d_joint = c.d_joint.values();
  const SoftmaxCase::Piece all{0, 33}, empty{0, 0};
  OnCuda cuda(device, c.tensors());
  cuda.run(SoftmaxAttention{
      .out = c.out, .log_sum = c.log_sum, .queries = c.queries(all), .keys = c.keys(empty)});
  cuda.run(SoftmaxAttentionBackwardQuery{.d_query = c.part(c.d_joint, 0, all),
                                         .queries = c.queries(all),
                                         .keys = c.keys(empty),
                                         .gradient = c.gradient(all)});
  cuda.run(SoftmaxAttentionBackwardKeyValue{.d_key = c.part(c.d_joint, 1, all),
                                            .d_value = c.part(c.d_joint, 2, all),
                                            .queries = c.queries(empty),
                                            .keys = c.keys(all),
                                            .gradient = c.gradient(empty)});
  expect_close(c.out, out, 1e-6);
  EXPECT_EQ(c.d_joint.values(), d_joint);
}

TEST(SoftmaxAttentionOnCuda, HeadsThatAreTooLargeAreRefused) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  SoftmaxCase c(DType::f32, {3, 1, 257}, true);
  expect_error(ErrorKind::usage, "heads of 257 dimensions",
               [&] { forward_and_backward(device, c); });
}

}  // namespace
}  // namespace longscan

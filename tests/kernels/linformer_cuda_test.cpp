// Linformer on the GPU against the CPU in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/linformer.h"
#include "tests/support/linformer_case.h"
#include "tests/support/on_cuda.h"

namespace longscan {
namespace {

using test::expect_error;
using test::has_cuda;
using test::kProjections;
using test::LinformerCase;
using test::LinformerShape;
using test::OnCuda;
using test::OwnedTensor;
using test::Projections;

// Sizes around the tiles of the kernels, and heads of every padded size, in rows of whole vectors
// and in others; documents of one token, on borders of tiles, as long as the projection, and begun
// earlier.
const std::vector<LinformerShape> kShapes = {
    {1, 1, 1, 1, 1, {}},
    {33, 2, 5, 3, 40, {0}, 0},
    {43, 3, 16, 33, 43, {0, 1, 2, 42}},
    {130, 2, 7, 65, 131, {64, 127, 128}, 67},
    {100, 1, 40, 20, 72, {31, 32, 33, 64, 96}, 5},
    {40, 1, 104, 33, 200, {}, 150},
    {35, 1, 200, 17, 32, {3}, 2},
};

// So few heads that documents are cut into pieces, of which the last are empty, or beyond what the
// projection has columns for.
const std::vector<LinformerShape> kLongShapes = {
    {1030, 1, 8, 5, 1100, {1000}, 20},
    {777, 1, 5, 3, 777, {0, 1, 34}},
};

void forward_and_backward(Device& device, const LinformerCase& c) {
  OnCuda cuda(device, c.tensors());
  c.forward(cuda), c.backward(cuda);
}

// The same numbers in double, and what comes of them on the CPU.
LinformerCase in_double(const LinformerCase& c) {
  LinformerCase exact(DType::f64, c.shape, c.sharing);
  exact.masked = c.masked;
  for (const auto& [to, from] :
       {std::pair<OwnedTensor*, const OwnedTensor*>{&exact.joint, &c.joint},
        {&exact.key_projection, &c.key_projection},
        {&exact.value_projection, &c.value_projection},
        {&exact.d_out, &c.d_out}}) {
    for (std::int64_t i = 0; i < from->size(); ++i) to->set(i, from->get(i));
  }
  Device device = Device::cpu(1);
  exact.forward(device), exact.backward(device);
  return exact;
}

// All numbers within `tolerance` of the expected ones, relative to the largest of these.
void expect_near(const OwnedTensor& actual, const OwnedTensor& expected, double tolerance,
                 const char* what) {
  double largest = 1e-2;
  for (const double x : expected.values()) largest = std::max(largest, std::abs(x));
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(actual.get(i), expected.get(i), tolerance * largest) << what << ", element " << i;
  }
}

void expect_as_in_double(const LinformerCase& c) {
  const bool bf16 = c.out.view().dtype == DType::bf16;
  const LinformerCase exact = in_double(c);
  expect_near(c.projected, exact.projected, 2e-6, "projected");
  expect_near(c.out, exact.out, bf16 ? 1e-2 : 1e-5, "out");
  expect_near(c.log_sum, exact.log_sum, bf16 ? 1e-4 : 2e-6, "log_sum");
  const double tolerance = bf16 ? 1.5e-2 : 3e-5;
  expect_near(c.d_projected, exact.d_projected, tolerance, "d_projected");
  expect_near(c.d_joint, exact.d_joint, tolerance, "gradients of tokens");
  expect_near(c.d_key_projection, exact.d_key_projection, tolerance, "d E");
  expect_near(c.d_value_projection, exact.d_value_projection, tolerance, "d F");
}

TEST(LinformerOnCuda, IsThatOfTheCpuForBothTypesOddSizesAndEachSharing) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const LinformerShape& shape : kShapes) {
    for (const Projections sharing : kProjections) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        SCOPED_TRACE(std::to_string(shape.tokens) + " tokens, sharing " +
                     std::to_string(static_cast<int>(sharing)) + ", " + name_of(dtype));
        LinformerCase c(dtype, shape, sharing);
        c.masked = sharing != Projections::heads;
        forward_and_backward(device, c);
        expect_as_in_double(c);
      }
    }
  }
}

TEST(LinformerOnCuda, IsThatOfTheCpuWhereFewHeadsOfALongLineAreCutIntoPieces) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const LinformerShape& shape : kLongShapes) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(std::to_string(shape.tokens) + " tokens, " + name_of(dtype));
      LinformerCase c(dtype, shape, Projections::heads);
      c.masked = true;
      forward_and_backward(device, c);
      expect_as_in_double(c);
      LinformerCase again(dtype, shape, Projections::heads);
      again.masked = true;
      forward_and_backward(device, again);
      EXPECT_EQ(again.projected.values(), c.projected.values());
      EXPECT_EQ(again.d_projected.values(), c.d_projected.values());
    }
  }
}

TEST(LinformerOnCuda, WhatStandsInMaskedOutTokensDoesNotMatter) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const std::int64_t dim : {7, 8}) {
    for (const double content : {1e9, std::nan("")}) {
      const LinformerShape shape{70, 2, dim, 5, 70, {3}, 9};
      LinformerCase expected(DType::f32, shape, Projections::own);
      LinformerCase c(DType::f32, shape, Projections::own);
      const std::int64_t width = 2 * dim;
      for (std::int64_t i = 0; i < 70; ++i) {
        if (c.mask.get(i) != 0) continue;
        for (std::int64_t n = width; n < 3 * width; ++n) c.joint.set(3 * width * i + n, content);
      }
      for (LinformerCase* each : {&expected, &c}) {
        each->masked = true;
        forward_and_backward(device, *each);
      }
      EXPECT_EQ(c.out.values(), expected.out.values());
      EXPECT_EQ(c.d_joint.values(), expected.d_joint.values());
      EXPECT_EQ(c.d_key_projection.values(), expected.d_key_projection.values());
      EXPECT_EQ(c.d_value_projection.values(), expected.d_value_projection.values());
    }
  }
}

TEST(LinformerOnCuda, GradientsOfTheProjectionsAreAdded) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  for (const Projections sharing : kProjections) {
    LinformerCase c(DType::f32, {40, 2, 8, 5, 72, {11}}, sharing);
    forward_and_backward(device, c);
    std::vector<double> twice = c.d_key_projection.values();
    for (double& x : twice) x *= 2;
    OnCuda cuda(device, c.tensors());
    c.backward(cuda);
    test::expect_close(c.d_key_projection, twice, 1e-5);
  }
}

TEST(LinformerOnCuda, HugeScoresStayFinite) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  LinformerCase c(DType::f32, {43, 3, 16, 33, 43, {0, 1, 2, 42}}, Projections::heads);
  for (std::int64_t i = 0; i < c.joint.size(); ++i) c.joint.set(i, 1e3 * c.joint.get(i));
  forward_and_backward(device, c);
  for (const OwnedTensor* each : {&c.out, &c.d_joint, &c.d_key_projection}) {
    for (const double x : each->values()) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST(LinformerOnCuda, ADocumentLongerThanTheProjectionIsAnError) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  const auto forward = [&](const LinformerShape& shape) {
    const LinformerCase c(DType::f32, shape, Projections::heads);
    OnCuda cuda(device, c.tensors());
    c.forward(cuda);
  };
  forward({43, 1, 4, 3, 33, {33}});
  expect_error(ErrorKind::data, "position 33", [&] { forward({44, 1, 4, 3, 33, {34}}); });
  expect_error(ErrorKind::data, "position 34", [&] { forward({5, 1, 4, 3, 33, {}, 30}); });
  expect_error(ErrorKind::data, "position 104", [&] { forward({5, 1, 4, 3, 33, {}, 100}); });
  forward({43, 1, 4, 3, 33, {33}});
}

TEST(LinformerOnCuda, AShardWithoutTokensChangesNothing) {
  if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device device = Device::cuda(0);
  const LinformerCase c(DType::f32, {0, 2, 4, 3, 33, {}}, Projections::own);
  forward_and_backward(device, c);
  EXPECT_EQ(c.d_key_projection.values(), std::vector<double>(2 * 3 * 33));
}

}  // namespace
}  // namespace longscan

// Elementwise operations on the GPU against those of the CPU in double.
#include "kernels/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/cuda_case.h"

namespace longscan {
namespace {

using test::CudaOfType;
using test::expect_close;
using test::expect_error;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;
using test::tolerance;

// Rows that are whole vectors of both types, and rows that are not.
constexpr std::int64_t kWidths[] = {1, 33, 40, 64, 597};

class ElementwiseOnCuda : public CudaOfType {};

TEST_P(ElementwiseOnCuda, FillWritesEveryElementAndNoOther) {
  for (const DType type : {dtype, DType::f64}) {
    for (const std::int64_t count : {0, 1, 8, 597, 3001}) {
      for (const std::int64_t first : {0, 3}) {
        OwnedTensor out(type, {count + 7});
        OnCuda(gpu(), {&out})
            .run(Fill{.out = out.view().rows(first, first + count), .value = 0.75});
        for (std::int64_t i = 0; i < out.size(); ++i) {
          ASSERT_EQ(out.get(i), i >= first && i < first + count ? 0.75 : 0) << i;
        }
      }
    }
  }
}

TEST_P(ElementwiseOnCuda, CopyLeavesWhatLiesInGaps) {
  for (const DType type : {dtype, DType::f64, DType::i32, DType::i64, DType::u8}) {
    for (const std::int64_t width : {1, 2, 4, 7, 16}) {
      OwnedTensor in(type, {43, 2, width});
      for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, static_cast<double>(i % 100 + 1));
      OwnedTensor out(type, {43, 3 * width});
      OnCuda on_gpu(gpu(), {&out, &in});
      on_gpu.run(Copy{.out = out.view().columns(width, 3 * width).split_heads(2), .in = in});
      for (std::int64_t i = 0; i < out.size(); ++i) {
        const std::int64_t row = i / (3 * width);
        const std::int64_t column = i % (3 * width);
        const double expected = column < width ? 0 : in.get((2 * row - 1) * width + column);
        ASSERT_EQ(out.get(i), expected) << describe(out);
      }
      OwnedTensor dense(type, {43, 2, width});
      OnCuda(gpu(), {&dense, &in}).run(Copy{.out = dense, .in = in});
      EXPECT_EQ(dense.values(), in.values());
    }
  }
}

TEST_P(ElementwiseOnCuda, CopySwapsDimensions) {
  const OwnedTensor in = OwnedTensor::random(dtype, {9, 5, 16}, 1);
  OwnedTensor out(dtype, {5, 9, 16});
  Tensor swapped = out.view();
  std::swap(swapped.shape[0], swapped.shape[1]);
  std::swap(swapped.stride[0], swapped.stride[1]);
  OnCuda(gpu(), {&out, &in}).run(Copy{.out = swapped, .in = in});
  for (std::int64_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(out.get(i / 16 % 5 * 9 * 16 + i / 80 * 16 + i % 16), in.get(i));
  }
}

TEST_P(ElementwiseOnCuda, RoundIsThatOfTheCpuToTheBit) {
  for (const std::int64_t count : {0, 1, 8, 597}) {
    for (const std::int64_t first : {0, 1}) {
      const OwnedTensor in = OwnedTensor::random(DType::f32, {count + first}, 1, 100);
      OwnedTensor out(DType::bf16, {count + first});
      OwnedTensor expected(DType::bf16, {count + first});
      const Tensor numbers = in.view().rows(first, first + count);
      OnCuda(gpu(), {&out, &in})
          .run(Round{.out = out.view().rows(first, first + count), .in = numbers});
      cpu.run(Round{.out = expected.view().rows(first, first + count), .in = numbers});
      EXPECT_EQ(out.values(), expected.values());
    }
  }
}

TEST_P(ElementwiseOnCuda, AddWeighsRowsThatHaveGaps) {
  for (const std::int64_t rows : {0, 1, 33}) {
    for (const std::int64_t columns : kWidths) {
      for (const std::int64_t gap : {3, 8}) {
        OwnedTensor a = OwnedTensor::random(dtype, {rows, columns + gap}, 1);
        OwnedTensor b = OwnedTensor::random(dtype, {rows, columns}, 2);
        OwnedTensor out(dtype, {rows, columns});
        std::vector<double> sum;
        for (std::int64_t i = 0; i < rows * columns; ++i) {
          const std::int64_t in_a = i / columns * (columns + gap) + gap + i % columns;
          sum.push_back(0.5 * a.get(in_a) + 3 * b.get(i));
        }
        OnCuda on_gpu(gpu(), {&out, &a, &b});
        const Tensor of_a = a.view().columns(gap, columns + gap);
        on_gpu.run(Add{.out = out, .a = of_a, .b = b, .a_factor = 0.5, .b_factor = 3});
        expect_close(out, sum, tolerance(dtype));
        const std::vector<double> before = a.values();
        on_gpu.run(Add{.out = of_a, .a = of_a, .b = b, .a_factor = 0.5, .b_factor = 3});
        for (std::int64_t i = 0; i < a.size(); ++i) {
          const std::int64_t column = i % (columns + gap) - gap;
          const std::int64_t in_sum = i / (columns + gap) * columns + column;
          const double expected = column < 0 ? before[static_cast<std::size_t>(i)]
                                             : sum[static_cast<std::size_t>(in_sum)];
          ASSERT_NEAR(a.get(i), expected, tolerance(dtype) * (1 + std::abs(expected)));
        }
      }
    }
  }
}

TEST_P(ElementwiseOnCuda, ActivationsAreThoseOfTheCpuInDouble) {
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::relu}) {
    for (const std::int64_t width : kWidths) {
      const OwnedTensor in = OwnedTensor::random(dtype, {7, width}, 3, 4);
      OwnedTensor out(dtype, {7, width});
      OwnedTensor gradient = OwnedTensor::random(dtype, {7, width}, 4);
      OwnedTensor out64(DType::f64, {7, width});
      const OwnedTensor gradient64 = in_double(gradient);
      const OwnedTensor in64 = in_double(in);
      cpu.run(Activation{.out = out64, .in = in64, .kind = kind});
      cpu.run(
          ActivationBackward{.d_in = gradient64, .d_out = gradient64, .in = in64, .kind = kind});
      OnCuda on_gpu(gpu(), {&out, &gradient, &in});
      on_gpu.run(Activation{.out = out, .in = in, .kind = kind});
      on_gpu.run(ActivationBackward{.d_in = gradient, .d_out = gradient, .in = in, .kind = kind});
      expect_close(out, out64.values(), tolerance(dtype));
      expect_close(gradient, gradient64.values(), tolerance(dtype), "in place");
    }
  }
}

TEST_P(ElementwiseOnCuda, ActivationsOfHugeNumbersStayFiniteAndNanStays) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const OwnedTensor in(dtype, {1, 5}, {1e4, -1e4, 1e9, -1e9, nan});
  const OwnedTensor ones(dtype, {1, 5}, {1, 1, 1, 1, 1});
  for (const ActivationKind kind : {ActivationKind::gelu, ActivationKind::relu}) {
    OwnedTensor out(dtype, {1, 5});
    OwnedTensor d_in(dtype, {1, 5});
    OnCuda on_gpu(gpu(), {&out, &d_in, &in, &ones});
    on_gpu.run(Activation{.out = out, .in = in, .kind = kind});
    on_gpu.run(ActivationBackward{.d_in = d_in, .d_out = ones, .in = in, .kind = kind});
    for (std::int64_t i = 0; i < 4; ++i) {
      const double expected = std::max(in.get(i), 0.0);
      EXPECT_NEAR(out.get(i), expected, 1e-6 * expected);
      EXPECT_EQ(d_in.get(i), expected > 0 ? 1 : 0);
    }
    EXPECT_TRUE(std::isnan(out.get(4)));
  }
}

TEST_P(ElementwiseOnCuda, SwiGluIsThatOfTheCpuInDouble) {
  for (const std::int64_t rows : {0, 1, 13}) {
    for (const std::int64_t hidden : kWidths) {
      OwnedTensor in = OwnedTensor::random(dtype, {rows, 2 * hidden}, 5, 2);
      OwnedTensor out(dtype, {rows, hidden});
      const OwnedTensor d_out = OwnedTensor::random(dtype, {rows, hidden}, 6);
      OwnedTensor d_in(dtype, {rows, 2 * hidden});
      OwnedTensor out64(DType::f64, {rows, hidden});
      OwnedTensor d_in64(DType::f64, {rows, 2 * hidden});
      const OwnedTensor in64 = in_double(in);
      cpu.run(SwiGlu{.out = out64, .in = in64});
      cpu.run(SwiGluBackward{.d_in = d_in64, .d_out = in_double(d_out), .in = in64});
      OnCuda on_gpu(gpu(), {&out, &d_in, &d_out, &in});
      on_gpu.run(SwiGlu{.out = out, .in = in});
      on_gpu.run(SwiGluBackward{.d_in = d_in, .d_out = d_out, .in = in});
      expect_close(out, out64.values(), tolerance(dtype));
      expect_close(d_in, d_in64.values(), tolerance(dtype));
      on_gpu.run(SwiGluBackward{.d_in = in, .d_out = d_out, .in = in});
      EXPECT_EQ(in.values(), d_in.values()) << "in place";
    }
  }
}

TEST_P(ElementwiseOnCuda, DropoutHasTheMaskOfTheCpuToTheBit) {
  const OwnedTensor step(DType::i64, {1}, {0x1p40});
  for (const std::int64_t columns : kWidths) {
    for (const std::int64_t first_token : {std::int64_t{0}, std::int64_t{5000000001}}) {
      const OwnedTensor in = OwnedTensor::random(dtype, {19, columns}, 1);
      OwnedTensor out(dtype, {19, columns});
      OwnedTensor out64(DType::f64, {19, columns});
      Dropout dropout{.out = out,
                      .in = in,
                      .rate = 0.3,
                      .key = {.seed = 77, .purpose = RandomPurpose::dropout, .step = 5},
                      .step = first_token > 0 ? step.view() : Tensor{},
                      .first_token = first_token};
      OnCuda(gpu(), {&out, &in, &step}).run(dropout);
      const OwnedTensor in64 = in_double(in);
      dropout.out = out64;
      dropout.in = in64;
      cpu.run(dropout);
      expect_close(out, out64.values(), tolerance(dtype));
      for (std::int64_t i = 0; i < out.size(); ++i) {
        ASSERT_EQ(out.get(i) == 0, out64.get(i) == 0) << i << " of " << columns << " columns";
      }
    }
  }
}

TEST_P(ElementwiseOnCuda, NothingIsNoWork) {
  const OwnedTensor nothing(dtype, {0, 8});
  const OwnedTensor wide(dtype, {0, 16});
  OnCuda on_gpu(gpu(), {&nothing, &wide});
  on_gpu.run(Copy{.out = nothing, .in = nothing});
  on_gpu.run(Copy{.out = wide.view().columns(0, 8), .in = nothing});
  on_gpu.run(Activation{.out = nothing, .in = nothing});
  on_gpu.run(ActivationBackward{.d_in = nothing, .d_out = nothing, .in = nothing});
  on_gpu.run(SwiGlu{.out = nothing, .in = wide});
  on_gpu.run(Dropout{.out = nothing, .in = nothing, .rate = 0.5});
}

INSTANTIATE_TEST_SUITE_P(Types, ElementwiseOnCuda, testing::Values(DType::f32, DType::bf16),
                         test::type_name);

TEST(ElementwiseOnCudaInDouble, IsRefusedWithTheReason) {
  if (!test::has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device gpu = Device::cuda(0);
  const OwnedTensor tensor(DType::f64, {3, 4});
  expect_error(ErrorKind::internal, "the GPU computes in f32 and bf16",
               [&] { OnCuda(gpu, {&tensor}).run(Activation{.out = tensor, .in = tensor}); });
}

}  // namespace
}  // namespace longscan

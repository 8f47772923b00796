// LayerNorm and RMSNorm on the GPU against those of the CPU in double.
#include "kernels/normalization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/cuda_case.h"

namespace longscan {
namespace {

using test::CudaOfType;
using test::expect_close;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;
using test::tolerance;

class NormalizeOnCuda : public CudaOfType {
 protected:
  // Forward and backward on the GPU, compared with the CPU; returns all results of the GPU.
  std::vector<double> checked(std::int64_t tokens, std::int64_t width, bool centred);
};

std::vector<double> NormalizeOnCuda::checked(std::int64_t tokens, std::int64_t width,
                                             bool centred) {
  const auto sums = [&](std::int64_t count, std::uint64_t seed) {
    return OwnedTensor::random(DType::f32, {count}, seed);
  };
  OwnedTensor in = OwnedTensor::random(dtype, {tokens, width}, 1, 2);
  for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, in.get(i) + 1);
  const OwnedTensor weight = sums(width, 2);
  const OwnedTensor bias = sums(width, 3);
  const OwnedTensor d_out = OwnedTensor::random(dtype, {tokens, width}, 4);
  const OwnedTensor out(dtype, {tokens, width});
  const OwnedTensor rstd(DType::f32, {tokens});
  const OwnedTensor mean(DType::f32, {tokens});
  const OwnedTensor d_in = OwnedTensor::random(dtype, {tokens, width}, 5);
  const OwnedTensor d_weight = sums(width, 6);
  const OwnedTensor d_bias = sums(width, 7);
  const std::vector<const OwnedTensor*> all = {&in,   &weight, &bias, &d_out,    &out,
                                               &rstd, &mean,   &d_in, &d_weight, &d_bias};
  std::vector<OwnedTensor> exact;
  for (const OwnedTensor* tensor : all) exact.push_back(in_double(*tensor));
  const auto run = [&](auto& device, const auto& t) {
    const Tensor none;
    device.run(Normalize{.out = t(4),
                         .rstd = t(5),
                         .mean = centred ? t(6) : none,
                         .in = t(0),
                         .weight = t(1),
                         .bias = centred ? t(2) : none});
    device.run(NormalizeBackward{.d_in = t(7),
                                 .d_weight = t(8),
                                 .d_bias = centred ? t(9) : none,
                                 .d_out = t(3),
                                 .in = t(0),
                                 .weight = t(1),
                                 .rstd = t(5),
                                 .mean = centred ? t(6) : none});
  };
  run(cpu, [&](std::size_t i) { return exact[i].view(); });
  OnCuda on_gpu(gpu(), all);
  run(on_gpu, [&](std::size_t i) { return all[i]->view(); });
  std::vector<double> results;
  for (std::size_t i = 4; i < all.size(); ++i) {
    if (all[i]->size() == 0) continue;
    // Sums over tokens have the roundings of their largest addends.
    const double factor = i >= 8 ? std::sqrt(static_cast<double>(tokens)) : 1;
    const double bound = factor * tolerance(all[i]->view().dtype);
    const std::string what = fmt::format("result {}, {} tokens of {}", i, tokens, width);
    expect_close(*all[i], exact[i].values(), bound, what);
    const std::vector<double> values = all[i]->values();
    results.insert(results.end(), values.begin(), values.end());
  }
  return results;
}

TEST_P(NormalizeOnCuda, ForwardAndBackwardAreThoseOfTheCpuInDouble) {
  for (const bool centred : {true, false}) {
    for (const std::int64_t tokens : {0, 1, 8, 43, 300}) {
      for (const std::int64_t width : {1, 5, 33, 64, 597, 776}) checked(tokens, width, centred);
    }
  }
}

TEST_P(NormalizeOnCuda, BackwardAddsUpManyTokens) {
  // More than one tile a block, and a last block that has less than the others.
  checked(9001, 8, true);
  checked(9001, 3, false);
}

TEST_P(NormalizeOnCuda, GivesTheSameBitsEveryTime) {
  EXPECT_EQ(checked(300, 64, true), checked(300, 64, true));
}

TEST_P(NormalizeOnCuda, AMeanFarFromZeroCostsNoDigits) {
  constexpr std::int64_t kWidth = 1024;
  OwnedTensor in = OwnedTensor::random(dtype, {3, kWidth}, 1);
  for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, in.get(i) + 1000);
  const OwnedTensor ones(DType::f32, {kWidth}, std::vector<double>(kWidth, 1.0));
  const OwnedTensor zeros(DType::f32, {kWidth});
  OwnedTensor out(dtype, {3, kWidth});
  OwnedTensor rstd(DType::f32, {3});
  OwnedTensor mean(DType::f32, {3});
  const OwnedTensor out64(DType::f64, {3, kWidth});
  const OwnedTensor rstd64(DType::f64, {3});
  const OwnedTensor mean64(DType::f64, {3});
  OnCuda(gpu(), {&in, &ones, &zeros, &out, &rstd, &mean})
      .run(Normalize{
          .out = out, .rstd = rstd, .mean = mean, .in = in, .weight = ones, .bias = zeros});
  cpu.run(Normalize{.out = out64,
                    .rstd = rstd64,
                    .mean = mean64,
                    .in = in_double(in),
                    .weight = in_double(ones),
                    .bias = in_double(zeros)});
  expect_close(rstd, rstd64.values(), 1e-6);
  // The mean is exact to 6e-5.
  expect_close(out, out64.values(), 1e-4 + (dtype == DType::bf16 ? tolerance(dtype) : 0));
}

INSTANTIATE_TEST_SUITE_P(Types, NormalizeOnCuda, testing::Values(DType::f32, DType::bf16),
                         test::type_name);

}  // namespace
}  // namespace longscan

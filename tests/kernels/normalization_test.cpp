// LayerNorm and RMSNorm against their definitions, gradients against central differences.
#include "kernels/normalization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/finite_differences.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::kOddSizes;
using test::OwnedTensor;
using test::tolerance;

// The operands of one normalisation, forward and backward.
struct Case {
  bool centred;
  OwnedTensor in, weight, bias, out, rstd, mean, d_out, d_in, d_weight, d_bias;

  Case(DType dtype, bool is_centred, std::int64_t tokens, std::int64_t width)
      : centred(is_centred),
        in(OwnedTensor::random(dtype, {tokens, width}, 1)),
        weight(OwnedTensor::random(dtype, {width}, 2)),
        bias(OwnedTensor::random(dtype, {width}, 3)),
        out(dtype, {tokens, width}),
        rstd(dtype, {tokens}),
        mean(dtype, {tokens}),
        d_out(OwnedTensor::random(dtype, {tokens, width}, 4)),
        d_in(dtype, {tokens, width}),
        d_weight(dtype, {width}),
        d_bias(dtype, {width}) {}

  Normalize forward() const {
    return {.out = out,
            .rstd = rstd,
            .mean = centred ? mean.view() : Tensor{},
            .in = in,
            .weight = weight,
            .bias = centred ? bias.view() : Tensor{}};
  }
  NormalizeBackward backward() const {
    return {.d_in = d_in,
            .d_weight = d_weight,
            .d_bias = centred ? d_bias.view() : Tensor{},
            .d_out = d_out,
            .in = in,
            .weight = weight,
            .rstd = rstd,
            .mean = centred ? mean.view() : Tensor{}};
  }

  std::vector<double> expected_out(double epsilon) const {
    const std::int64_t width = weight.size();
    std::vector<double> result;
    for (std::int64_t token = 0; token < rstd.size(); ++token) {
      const auto x = [&](std::int64_t i) { return in.get(token * width + i); };
      double average = 0;
      for (std::int64_t i = 0; centred && i < width; ++i) average += x(i) / double(width);
      double variance = 0;
      for (std::int64_t i = 0; i < width; ++i) variance += std::pow(x(i) - average, 2);
      const double scale = 1 / std::sqrt(variance / double(width) + epsilon);
      for (std::int64_t i = 0; i < width; ++i) {
        result.push_back((x(i) - average) * scale * weight.get(i) + (centred ? bias.get(i) : 0));
      }
    }
    return result;
  }
};

TEST(Normalize, IsItsDefinitionForBothKindsTypesAndOddSizes) {
  Device device = Device::cpu(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const bool centred : {true, false}) {
      for (const std::int64_t tokens : kOddSizes) {
        for (const std::int64_t width : kOddSizes) {
          Case c(dtype, centred, tokens, width);
          device.run(c.forward());
          expect_close(c.out, c.expected_out(1e-5), 4 * tolerance(dtype));
        }
      }
    }
  }
}

TEST(Normalize, KeepsMeanAndRstdAndHonoursEpsilon) {
  Device device = Device::cpu(1);
  Case c(DType::f64, true, 33, 43);
  Normalize operation = c.forward();
  operation.epsilon = 0.5;
  device.run(operation);
  expect_close(c.out, c.expected_out(0.5), 1e-13);
  for (std::int64_t token = 0; token < 33; ++token) {
    double sum = 0;
    double squares = 0;
    for (std::int64_t i = 0; i < 43; ++i) sum += c.in.get(token * 43 + i);
    for (std::int64_t i = 0; i < 43; ++i) {
      squares += std::pow(c.in.get(token * 43 + i) - sum / 43, 2);
    }
    EXPECT_NEAR(c.mean.get(token), sum / 43, 1e-14);
    EXPECT_NEAR(c.rstd.get(token), 1 / std::sqrt(squares / 43 + 0.5), 1e-14);
  }
}

TEST(Normalize, KeepsItsDigitsWhereTheMeanIsLarge) {
  Device device = Device::cpu(1);
  Case c(DType::f32, true, 33, 597);
  for (std::int64_t i = 0; i < c.in.size(); ++i) c.in.set(i, c.in.get(i) + 1000);
  device.run(c.forward());
  // The stored mean is rounded by up to 1000 * 2^-25; E[x^2] - E[x]^2 would be wrong by 10 %.
  expect_close(c.out, c.expected_out(1e-5), 2e-4);
}

TEST(Normalize, AConstantRowGivesTheBias) {
  Device device = Device::cpu(1);
  Case c(DType::f32, true, 3, 64);
  for (std::int64_t i = 0; i < c.in.size(); ++i) c.in.set(i, 0.5);
  device.run(c.forward());
  for (std::int64_t i = 0; i < c.out.size(); ++i) EXPECT_EQ(c.out.get(i), c.bias.get(i % 64));
}

TEST(NormalizeBackward, EqualsCentralDifferencesInEveryInput) {
  Device device = Device::cpu(2);
  for (const bool centred : {true, false}) {
    Case c(DType::f64, centred, 7, 43);
    device.run(c.forward());
    device.run(c.backward());
    const auto loss = [&] {
      device.run(c.forward());
      return test::weighted_sum(c.out, c.d_out);
    };
    const auto expect = [&](const OwnedTensor& gradient, OwnedTensor& x, const char* name) {
      expect_close(gradient, test::central_differences(x, loss), test::kDifferenceTolerance, name);
    };
    expect(c.d_in, c.in, "d_in");
    expect(c.d_weight, c.weight, "d_weight");
    if (centred) expect(c.d_bias, c.bias, "d_bias");
  }
}

TEST(NormalizeBackward, AddsToWhatIsThere) {
  Device device = Device::cpu(2);
  Case once(DType::f64, true, 597, 43);
  Case twice(DType::f64, true, 597, 43);
  device.run(once.forward());
  device.run(once.backward());
  device.run(twice.forward());
  device.run(twice.backward());
  device.run(twice.backward());
  const auto doubled = [](const OwnedTensor& tensor) {
    std::vector<double> values = tensor.values();
    for (double& value : values) value *= 2;
    return values;
  };
  expect_close(twice.d_in, doubled(once.d_in), 1e-13);
  expect_close(twice.d_weight, doubled(once.d_weight), 1e-13);
  expect_close(twice.d_bias, doubled(once.d_bias), 1e-13);
}

TEST(NormalizeBackward, FloatEqualsDoubleOverManyBlocks) {
  Device device = Device::cpu(2);
  for (const bool centred : {true, false}) {
    Case narrow(DType::f32, centred, 597, 129);
    Case wide(DType::f64, centred, 597, 129);
    for (const auto& [to, from] : {std::pair{&wide.in, &narrow.in},
                                   {&wide.weight, &narrow.weight},
                                   {&wide.d_out, &narrow.d_out}}) {
      for (std::int64_t i = 0; i < from->size(); ++i) to->set(i, from->get(i));
    }
    for (Case* c : {&narrow, &wide}) {
      device.run(c->forward());
      device.run(c->backward());
    }
    expect_close(narrow.d_in, wide.d_in.values(), 2e-5);
    expect_close(narrow.d_weight, wide.d_weight.values(), 2e-5);
    if (centred) expect_close(narrow.d_bias, wide.d_bias.values(), 2e-5);
  }
}

TEST(NormalizeBackward, GivesTheSameBitsOnAnyNumberOfThreads) {
  test::expect_same_on_any_threads([](Device& device) {
    Case c(DType::f32, true, 597, 129);
    device.run(c.forward());
    device.run(c.backward());
    std::vector<double> all = c.d_in.values();
    for (const OwnedTensor* tensor : {&c.d_weight, &c.d_bias, &c.out, &c.rstd}) {
      const std::vector<double> values = tensor->values();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  });
}

TEST(Normalize, AnEmptyShardIsNothing) {
  Device device = Device::cpu(2);
  Case c(DType::f32, true, 0, 64);
  device.run(c.forward());
  device.run(c.backward());
  EXPECT_EQ(c.d_weight.values(), std::vector<double>(64, 0));
}

TEST(NormalizeContract, BrokenOnesNameTheOperand) {
  Device device = Device::cpu(1);
  const Case good(DType::f32, true, 4, 6);
  const OwnedTensor wrong(DType::f32, {5});
  const OwnedTensor matrix64(DType::f64, {4, 6});
  const auto forward = [&](const char* operand, const auto& spoil) {
    Normalize operation = good.forward();
    spoil(operation);
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  forward("Normalize.rstd", [&](Normalize& n) { n.rstd = wrong; });
  forward("Normalize.mean", [&](Normalize& n) { n.mean = {}; });
  forward("Normalize.mean", [&](Normalize& n) { n.bias = {}; });
  forward("Normalize.in", [&](Normalize& n) { n.in = matrix64; });
  forward("Normalize.weight", [&](Normalize& n) { n.weight = wrong; });
  forward("Normalize.bias", [&](Normalize& n) { n.bias = wrong; });
  const auto backward = [&](const char* operand, const auto& spoil) {
    NormalizeBackward operation = good.backward();
    spoil(operation);
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  backward("NormalizeBackward.d_weight", [&](NormalizeBackward& n) { n.d_weight = wrong; });
  backward("NormalizeBackward.d_out", [&](NormalizeBackward& n) { n.d_out = matrix64; });
  backward("NormalizeBackward.in", [&](NormalizeBackward& n) { n.in = wrong; });
  backward("NormalizeBackward.weight", [&](NormalizeBackward& n) { n.weight = {}; });
  backward("NormalizeBackward.rstd", [&](NormalizeBackward& n) { n.rstd = wrong; });
  backward("NormalizeBackward.mean", [&](NormalizeBackward& n) { n.d_bias = {}; });
  backward("NormalizeBackward.d_bias", [&](NormalizeBackward& n) { n.d_bias = wrong; });
}

}  // namespace
}  // namespace longscan

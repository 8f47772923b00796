// Dropout: the mask is a function of key and global element, and of nothing else.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/elementwise.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::expect_error;
using test::OwnedTensor;

constexpr RandomKey kKey = {.seed = 77, .purpose = RandomPurpose::dropout, .step = 5};

std::vector<double> dropped(Device& device, const OwnedTensor& in, double rate,
                            std::int64_t first_token) {
  OwnedTensor out(in.view().dtype, {in.view().shape[0], in.view().shape[1]});
  device.run(Dropout{.out = out, .in = in, .rate = rate, .key = kKey, .first_token = first_token});
  return out.values();
}

TEST(Dropout, DrawsTheDocumentedWordForEveryElement) {
  Device device = Device::cpu(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::int64_t columns : {1, 33, 43, 597}) {
      for (const std::int64_t first_token : {std::int64_t{0}, std::int64_t{5000000001}}) {
        const OwnedTensor in = OwnedTensor::random(dtype, {67, columns}, 1);
        const double rate = 0.3;
        std::vector<double> expected;
        for (std::int64_t i = 0; i < in.size(); ++i) {
          const auto element = static_cast<std::uint64_t>(first_token * columns + i);
          const std::uint32_t word = random_words(kKey, element / 4)[element % 4];
          expected.push_back(uniform_from(word) < rate ? 0 : in.get(i) / (1 - rate));
        }
        const OwnedTensor out(dtype, {67, columns}, dropped(device, in, rate, first_token));
        test::expect_close(out, expected, test::tolerance(dtype));
      }
    }
  }
}

TEST(Dropout, MaskDoesNotDependOnTheCutOfTheRows) {
  Device device = Device::cpu(2);
  constexpr std::int64_t kRows = 101;
  constexpr std::int64_t kColumns = 43;
  const OwnedTensor in = OwnedTensor::random(DType::f32, {kRows, kColumns}, 1);
  const std::vector<double> whole = dropped(device, in, 0.5, 1000);
  for (const std::int64_t cut : {0, 1, 37, 100, 101}) {
    OwnedTensor out(DType::f32, {kRows, kColumns});
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, cut}, {cut, kRows}}) {
      device.run(Dropout{.out = out.view().rows(begin, end),
                         .in = in.view().rows(begin, end),
                         .rate = 0.5,
                         .key = kKey,
                         .first_token = 1000 + begin});
    }
    EXPECT_EQ(out.values(), whole) << cut;
  }
}

TEST(Dropout, DropsAtItsRateAndKeepsTheMean) {
  Device device = Device::cpu(2);
  constexpr std::int64_t kCount = 1 << 20;
  const OwnedTensor ones(DType::f64, {kCount / 64, 64}, std::vector<double>(kCount, 1.0));
  for (const double rate : {0.01, 0.1, 0.5, 0.9}) {
    std::int64_t zeros = 0;
    for (const double value : dropped(device, ones, rate, 0)) zeros += value == 0 ? 1 : 0;
    const double sigma = std::sqrt(rate * (1 - rate) * kCount);
    EXPECT_NEAR(static_cast<double>(zeros), rate * kCount, 4 * sigma) << rate;
  }
}

TEST(Dropout, AtRateZeroIsTheIdentity) {
  Device device = Device::cpu(1);
  const OwnedTensor in = OwnedTensor::random(DType::f32, {33, 43}, 1);
  EXPECT_EQ(dropped(device, in, 0, 0), in.values());
}

TEST(Dropout, IsItsOwnGradientAlsoInPlace) {
  Device device = Device::cpu(1);
  const OwnedTensor in = OwnedTensor::random(DType::f64, {33, 43}, 1);
  OwnedTensor d = OwnedTensor::random(DType::f64, {33, 43}, 2);
  const OwnedTensor upstream(DType::f64, {33, 43}, d.values());
  const std::vector<double> out = dropped(device, in, 0.25, 9);
  device.run(Dropout{.out = d, .in = d, .rate = 0.25, .key = kKey, .first_token = 9});
  for (std::int64_t i = 0; i < d.size(); ++i) {
    const double slope = out[static_cast<std::size_t>(i)] / in.get(i);
    ASSERT_NEAR(d.get(i), upstream.get(i) * slope, 1e-13);
  }
}

TEST(Dropout, OtherKeysGiveOtherMasks) {
  Device device = Device::cpu(1);
  const OwnedTensor in = OwnedTensor::random(DType::f32, {8, 64}, 1);
  OwnedTensor out(DType::f32, {8, 64});
  RandomKey key = kKey;
  key.step = 6;
  device.run(Dropout{.out = out, .in = in, .rate = 0.5, .key = key});
  EXPECT_NE(out.values(), dropped(device, in, 0.5, 0));
}

TEST(Dropout, AddsTheStepInMemoryToTheKeys) {
  Device device = Device::cpu(2);
  const OwnedTensor in = OwnedTensor::random(DType::f32, {33, 43}, 1);
  const OwnedTensor out(DType::f32, {33, 43});
  // Beyond 32 bits, and where the sum passes 2^64.
  for (const std::uint64_t more : {std::uint64_t{1}, std::uint64_t{1} << 33, ~std::uint64_t{0}}) {
    OwnedTensor step(DType::i64, {1});
    *step.view().as<std::uint64_t>() = more;
    device.run(Dropout{.out = out, .in = in, .rate = 0.5, .key = kKey, .step = step});
    const std::vector<double> stepped = out.values();
    RandomKey key = kKey;
    key.step += more;
    device.run(Dropout{.out = out, .in = in, .rate = 0.5, .key = key});
    EXPECT_EQ(stepped, out.values()) << more;
  }
}

TEST(Dropout, DropsNanToo) {
  Device device = Device::cpu(1);
  const OwnedTensor in(DType::f32, {1, 64}, std::vector<double>(64, std::nan("")));
  int zeros = 0;
  for (const double value : dropped(device, in, 0.5, 0)) zeros += value == 0 ? 1 : 0;
  EXPECT_GT(zeros, 0);
  EXPECT_LT(zeros, 64);
}

TEST(Dropout, BrokenContractsNameTheOperand) {
  Device device = Device::cpu(1);
  const OwnedTensor matrix(DType::f32, {4, 6});
  const OwnedTensor tall(DType::f32, {5, 6});
  const auto expect = [&](const char* operand, const Dropout& operation) {
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  expect("Dropout.in", {.out = matrix, .in = tall});
  expect("Dropout.rate", {.out = matrix, .in = matrix, .rate = 1});
  expect("Dropout.rate", {.out = matrix, .in = matrix, .rate = -0.1});
  expect("Dropout.rate", {.out = matrix, .in = matrix, .rate = std::nan("")});
  expect("Dropout.step", {.out = matrix, .in = matrix, .step = matrix});
  expect("Dropout.first_token", {.out = matrix, .in = matrix, .first_token = -1});
}

}  // namespace
}  // namespace longscan

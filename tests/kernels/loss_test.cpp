// Cross-entropy against its definition in double.
#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/finite_differences.h"
#include "tests/support/reference.h"
#include "tests/support/samples.h"

namespace longscan {
namespace {

using test::expect_close;
using test::expect_error;
using test::kOddSizes;
using test::OwnedTensor;
using test::targets_for;
using test::tolerance;

struct Expected {
  std::vector<double> totals = {0, 0, 0};
  std::vector<double> gradient;
};

Expected by_definition(const OwnedTensor& logits, const OwnedTensor& targets) {
  Expected expected;
  const std::int64_t vocabulary = logits.view().shape[1];
  for (std::int64_t token = 0; token < targets.size(); ++token) {
    const auto target = static_cast<std::int64_t>(targets.get(token));
    std::vector<double> row;
    for (std::int64_t i = 0; i < vocabulary; ++i) row.push_back(logits.get(token * vocabulary + i));
    const auto largest = std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double logit : row) sum += std::exp(logit - *largest);
    for (std::int64_t i = 0; i < vocabulary; ++i) {
      const double softmax = std::exp(row[static_cast<std::size_t>(i)] - *largest) / sum;
      expected.gradient.push_back(target < 0 ? 0 : softmax - (i == target ? 1 : 0));
    }
    if (target < 0) continue;
    expected.totals[0] += std::log(sum) + *largest - row[static_cast<std::size_t>(target)];
    expected.totals[1] += largest - row.begin() == target ? 1 : 0;
    expected.totals[2] += 1;
  }
  return expected;
}

class CrossEntropyOfType : public testing::TestWithParam<DType> {
 protected:
  const DType dtype = GetParam();
  Device device = Device::cpu(2);
};

TEST_P(CrossEntropyOfType, IsItsDefinitionForOddSizes) {
  for (const std::int64_t tokens : kOddSizes) {
    for (const std::int64_t vocabulary : {1, 2, 33, 256, 597, 3001}) {
      OwnedTensor logits = OwnedTensor::random(dtype, {tokens, vocabulary}, 1, 3);
      const OwnedTensor targets = targets_for(logits);
      const Expected expected = by_definition(logits, targets);
      OwnedTensor totals(DType::f64, {3}, {1, 2, 3});
      device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
      EXPECT_NEAR(totals.get(0), 1 + expected.totals[0],
                  tolerance(dtype) * (1 + expected.totals[0]));
      EXPECT_EQ(totals.get(1), 2 + expected.totals[1]);
      EXPECT_EQ(totals.get(2), 3 + expected.totals[2]);
      expect_close(logits, expected.gradient, tolerance(dtype));
    }
  }
}

TEST_P(CrossEntropyOfType, KeepsItsDigitsOverALargeVocabulary) {
  OwnedTensor logits = OwnedTensor::random(dtype, {3, 50304}, 1, 3);
  const OwnedTensor targets(DType::i32, {3}, {0, 50303, 777});
  const Expected expected = by_definition(logits, targets);
  OwnedTensor totals(DType::f64, {3});
  device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  EXPECT_NEAR(totals.get(0), expected.totals[0], (dtype == DType::f32 ? 1e-6 : 1e-12));
  expect_close(logits, expected.gradient, tolerance(dtype) / 10);
}

TEST_P(CrossEntropyOfType, WithoutGradientTheLogitsStay) {
  OwnedTensor logits = OwnedTensor::random(dtype, {43, 33}, 1, 3);
  const OwnedTensor targets = targets_for(logits);
  const std::vector<double> before = logits.values();
  OwnedTensor totals(DType::f64, {3});
  OwnedTensor with_gradient(DType::f64, {3});
  device.run(
      CrossEntropy{.totals = totals, .logits = logits, .targets = targets, .gradient = false});
  EXPECT_EQ(logits.values(), before);
  device.run(CrossEntropy{.totals = with_gradient, .logits = logits, .targets = targets});
  EXPECT_EQ(totals.values(), with_gradient.values());
}

TEST_P(CrossEntropyOfType, ExtremeLogitsStayFinite) {
  OwnedTensor logits(dtype, {3, 3}, {1e4, -1e4, 0, 1e4, -1e4, 0, -1e4, -1e4, -1e4});
  const OwnedTensor targets(DType::i32, {3}, {0, 1, 2});
  OwnedTensor totals(DType::f64, {3});
  device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  EXPECT_NEAR(totals.get(0), 2e4 + std::log(3.0), 1e-3);
  expect_close(logits, {0, 0, 0, 1, -1, 0, 1. / 3, 1. / 3, -2. / 3}, tolerance(dtype));
}

TEST_P(CrossEntropyOfType, OfEqualLogitsTheFirstIsTheAnswer) {
  for (const int target : {0, 1, 2, 40, 41}) {
    std::vector<double> row(43, 0.0);
    row[1] = row[40] = 2;
    OwnedTensor logits(dtype, {1, 43}, row);
    const OwnedTensor targets(DType::i32, {1}, {static_cast<double>(target)});
    OwnedTensor totals(DType::f64, {3});
    device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
    EXPECT_EQ(totals.get(1), target == 1 ? 1 : 0) << target;
  }
}

TEST_P(CrossEntropyOfType, NanAnywhereShowsInTheLoss) {
  for (const std::int64_t place : {0, 5, 42}) {
    OwnedTensor logits = OwnedTensor::random(dtype, {1, 43}, 1);
    logits.set(place, std::numeric_limits<double>::quiet_NaN());
    const OwnedTensor targets(DType::i32, {1}, {7});
    OwnedTensor totals(DType::f64, {3});
    device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
    EXPECT_TRUE(std::isnan(totals.get(0))) << place;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CrossEntropyOfType, testing::Values(DType::f32, DType::f64),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(CrossEntropy, GradientEqualsCentralDifferencesOfTheSum) {
  Device device = Device::cpu(1);
  OwnedTensor logits = OwnedTensor::random(DType::f64, {7, 33}, 1, 2);
  const OwnedTensor targets = targets_for(logits);
  const auto loss = [&] {
    OwnedTensor totals(DType::f64, {3});
    device.run(
        CrossEntropy{.totals = totals, .logits = logits, .targets = targets, .gradient = false});
    return totals.get(0);
  };
  const std::vector<double> expected = test::central_differences(logits, loss);
  OwnedTensor totals(DType::f64, {3});
  device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  expect_close(logits, expected, test::kDifferenceTolerance);
}

TEST(CrossEntropy, IgnoredTargetsCountNothingAndHaveNoGradient) {
  Device device = Device::cpu(1);
  OwnedTensor logits = OwnedTensor::random(DType::f32, {5, 33}, 1);
  const OwnedTensor targets(DType::i32, {5}, {-1, -1, -1, -1, -1});
  OwnedTensor totals(DType::f64, {3});
  device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  EXPECT_EQ(totals.values(), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(logits.values(), std::vector<double>(5 * 33, 0.0));
}

TEST(CrossEntropy, GivesTheSameBitsOnAnyNumberOfThreads) {
  test::expect_same_on_any_threads([](Device& device) {
    OwnedTensor logits = OwnedTensor::random(DType::f32, {597, 257}, 1, 3);
    const OwnedTensor targets = targets_for(logits);
    OwnedTensor totals(DType::f64, {3});
    device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
    std::vector<double> all = logits.values();
    all.push_back(totals.get(0));
    return all;
  });
}

TEST(CrossEntropy, ATargetBeyondTheVocabularyIsNamed) {
  Device device = Device::cpu(1);
  const OwnedTensor logits(DType::f32, {2, 33});
  const OwnedTensor totals(DType::f64, {3});
  const OwnedTensor targets(DType::i32, {2}, {32, 33});
  expect_error(ErrorKind::data, "target 33 of token 1 is beyond the vocabulary", [&] {
    device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  });
}

TEST(CrossEntropy, AnEmptyShardCountsNothing) {
  Device device = Device::cpu(2);
  const OwnedTensor logits(DType::f32, {0, 33});
  const OwnedTensor targets(DType::i32, {0});
  const OwnedTensor totals(DType::f64, {3});
  device.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  EXPECT_EQ(totals.values(), (std::vector<double>{0, 0, 0}));
}

TEST(CrossEntropy, BrokenContractsNameTheOperand) {
  Device device = Device::cpu(1);
  const OwnedTensor logits(DType::f32, {2, 33});
  const OwnedTensor totals(DType::f64, {3});
  const OwnedTensor targets(DType::i32, {2});
  const OwnedTensor wide_targets(DType::i64, {2});
  const OwnedTensor nothing(DType::f32, {2, 0});
  const auto expect = [&](const char* operand, const CrossEntropy& operation) {
    expect_error(ErrorKind::internal, operand, [&] { device.run(operation); });
  };
  expect("CrossEntropy.totals", {.totals = logits, .logits = logits, .targets = targets});
  expect("CrossEntropy.logits", {.totals = totals, .logits = targets, .targets = targets});
  expect("CrossEntropy.logits", {.totals = totals, .logits = nothing, .targets = targets});
  expect("CrossEntropy.targets", {.totals = totals, .logits = logits, .targets = wide_targets});
}

}  // namespace
}  // namespace longscan

// The schedule's values, what clipping and decay do, and that a broken gradient changes nothing.
#include "model/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace longscan {
namespace {

TEST(LearningRate, WarmsUpThenDecaysAsTheScheduleSays) {
  OptimizerOptions options{
      .learning_rate = 2, .warmup_steps = 10, .final_fraction = 0.1, .total_steps = 110};
  for (const Schedule schedule : {Schedule::constant, Schedule::cosine, Schedule::linear}) {
    options.schedule = schedule;
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 1), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 5), 1.0);
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 10), 2.0);
  }
  options.schedule = Schedule::constant;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 1000), 2.0);
  options.schedule = Schedule::linear;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 60), 2 * 0.55);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 110), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 500), 0.2);
  options.schedule = Schedule::cosine;
  EXPECT_NEAR(learning_rate_at(options, 60), 2 * 0.55, 1e-12);
  EXPECT_NEAR(learning_rate_at(options, 35), 2 * (0.1 + 0.9 * 0.5 * (1 + std::sqrt(0.5))), 1e-12);
  EXPECT_NEAR(learning_rate_at(options, 110), 0.2, 1e-12);
}

TEST(LearningRate, NeedsNoWarmUp) {
  EXPECT_DOUBLE_EQ(
      learning_rate_at({.learning_rate = 3, .warmup_steps = 0, .schedule = Schedule::constant}, 1),
      3.0);
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class OptimizerTest : public ::testing::Test {
 protected:
  static ModelOptions model() {
    return {.vocabulary = 3, .width = 2, .layers = 1, .heads = 1, .hidden = 2, .dtype = DType::f64};
  }
  static OptimizerOptions options() {
    return {.learning_rate = 0.1, .warmup_steps = 0, .schedule = Schedule::constant};
  }
  void fill(Parameters& parameters, double value) {
    for (std::int64_t i = 0; i < parameters.flat().size(); ++i) {
      parameters.flat().as<double>()[i] = value;
    }
  }

  /// Returns the norm of gradient / targets.
  double update(Optimizer& optimizer, double targets) {
    double norm = -1;
    optimizer.update(parameters_, gradient_, Tensor::dense(&targets, DType::f64, {1}),
                     Tensor::dense(&norm, DType::f64, {1}), 1);
    return norm;
  }

  Device device_ = Device::cpu(1);
  Parameters parameters_{model(), device_};
  Parameters gradient_{model(), device_};
};

TEST_F(OptimizerTest, DecaysMatricesOnly) {
  OptimizerOptions with_decay = options();
  with_decay.weight_decay = 0.5;
  Optimizer optimizer(with_decay, model(), device_);
  fill(parameters_, 1);
  update(optimizer, 1);  // the gradient is zero: only decay moves
  for (const Parameter& parameter : parameters_.list()) {
    const double expected = parameter.tensor.rank == 2 ? 1 - 0.1 * 0.5 : 1;
    for (std::int64_t i = 0; i < parameter.tensor.size(); ++i) {
      EXPECT_DOUBLE_EQ(parameter.tensor.as<double>()[i], expected) << parameter.name;
    }
  }
}

TEST_F(OptimizerTest, ClipsTheGlobalNormAndReportsItUnclipped) {
  OptimizerOptions clipped = options();
  clipped.weight_decay = 0;
  clipped.clip_norm = 0.25;
  Optimizer optimizer(clipped, model(), device_);
  fill(gradient_, 6);
  const auto count = static_cast<double>(gradient_.flat().size());
  EXPECT_NEAR(update(optimizer, 2), 3 * std::sqrt(count), 1e-12);
  // The first moment holds (1 - beta1) times the gradient that was used.
  double squares = 0;
  for (std::int64_t i = 0; i < gradient_.flat().size(); ++i) {
    const double used = optimizer.first_moment().flat().as<double>()[i] / (1 - clipped.beta1);
    squares += used * used;
  }
  EXPECT_NEAR(std::sqrt(squares), 0.25, 1e-12);
}

TEST_F(OptimizerTest, LeavesShortGradientsAlone) {
  Optimizer optimizer(options(), model(), device_);
  gradient_.flat().as<double>()[3] = 0.125;
  update(optimizer, 0.5);
  EXPECT_NEAR(optimizer.first_moment().flat().as<double>()[3], (1 - 0.9) * 0.25, 1e-15);
}

TEST_F(OptimizerTest, LeavesAllAsItIsWhereTheGradientIsNotFiniteOrThereAreNoTargets) {
  Optimizer optimizer(options(), model(), device_);
  fill(parameters_, 1);
  fill(optimizer.first_moment(), 2);
  fill(optimizer.second_moment(), 3);
  const auto expect_untouched = [&] {
    for (std::int64_t i = 0; i < parameters_.flat().size(); ++i) {
      EXPECT_EQ(parameters_.flat().as<double>()[i], 1);
      EXPECT_EQ(optimizer.first_moment().flat().as<double>()[i], 2);
      EXPECT_EQ(optimizer.second_moment().flat().as<double>()[i], 3);
    }
  };
  EXPECT_FALSE(std::isfinite(update(optimizer, 0)));
  expect_untouched();
  for (const double broken : {std::nan(""), kInfinity}) {
    gradient_.flat().as<double>()[5] = broken;
    EXPECT_FALSE(std::isfinite(update(optimizer, 1)));
    expect_untouched();
  }
}

}  // namespace
}  // namespace longscan

// AdamW with a learning-rate schedule over the parameters of a model.
#pragma once

#include <cstdint>

#include "model/parameters.h"

namespace longscan {

enum class Schedule { constant, cosine, linear };

struct OptimizerOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< decoupled; of matrices, not of biases and norms
  std::int64_t warmup_steps = 100;
  Schedule schedule = Schedule::cosine;
  double final_fraction = 0.1;   ///< what the decay ends at, as a fraction of learning_rate
  std::int64_t total_steps = 1;  ///< where the decay ends
  double clip_norm = 1;          ///< largest global norm of the gradient; 0: no clipping
};

/// The learning rate of a step, counted from 1: linear over the warm-up, then constant, or falling
/// to final_fraction * learning_rate at total_steps and staying there.
double learning_rate_at(const OptimizerOptions& options, std::int64_t step);

class Optimizer {
 public:
  Optimizer(const OptimizerOptions& options, const ModelOptions& model, Device& device);

  /// One step with gradient / targets, clipped, without waiting for the device; `norm` becomes the
  /// norm of gradient / targets. Where it or targets are not finite nothing else changes. norm and
  /// targets: [1] f64. `step` counts from 1.
  void update(Parameters& parameters, const Parameters& gradient, const Tensor& targets,
              const Tensor& norm, std::int64_t step);

  const OptimizerOptions& options() const { return options_; }
  Parameters& first_moment() { return first_moment_; }
  Parameters& second_moment() { return second_moment_; }

 private:
  OptimizerOptions options_;
  Device& device_;
  Parameters first_moment_;
  Parameters second_moment_;
  Buffer scale_memory_;
};

}  // namespace longscan

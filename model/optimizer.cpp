// Schedule, clipping, and the update of decayed and other parameters.
#include "model/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/optimizer.h"

namespace longscan {

double learning_rate_at(const OptimizerOptions& options, std::int64_t step) {
  if (step < options.warmup_steps) {
    return options.learning_rate * static_cast<double>(step) /
           static_cast<double>(options.warmup_steps);
  }
  const auto decay_steps =
      static_cast<double>(std::max<std::int64_t>(options.total_steps - options.warmup_steps, 1));
  const double progress =
      std::min(1.0, static_cast<double>(step - options.warmup_steps) / decay_steps);
  double share = 1;
  if (options.schedule == Schedule::cosine)
    share = 0.5 * (1 + std::cos(std::acos(-1.0) * progress));
  if (options.schedule == Schedule::linear) share = 1 - progress;
  return options.learning_rate * (options.final_fraction + (1 - options.final_fraction) * share);
}

Optimizer::Optimizer(const OptimizerOptions& options, const ModelOptions& model, Device& device)
    : options_(options),
      device_(device),
      first_moment_(model, device, ParameterUse::sums),
      second_moment_(model, device, ParameterUse::sums),
      scale_memory_(device.allocate(2 * size_of(DType::f64))) {}

void Optimizer::update(Parameters& parameters, const Parameters& gradient, const Tensor& targets,
                       const Tensor& norm, std::int64_t step) {
  const Tensor numbers = Tensor::dense(scale_memory_.data(), DType::f64, {2});
  const Tensor squares = numbers.rows(0, 1);
  const Tensor scale = numbers.rows(1, 2);
  device_.run(Fill{.out = squares, .value = 0});
  device_.run(SumOfSquares{.out = squares, .in = gradient.flat()});
  device_.run(GradientScale{.scale = scale,
                            .norm = norm,
                            .squares = squares,
                            .targets = targets,
                            .clip_norm = options_.clip_norm});
  const auto run = [&](std::int64_t begin, std::int64_t end, const Tensor& rounded,
                       double weight_decay) {
    device_.run(AdamW{.parameter = parameters.flat().rows(begin, end),
                      .first_moment = first_moment_.flat().rows(begin, end),
                      .second_moment = second_moment_.flat().rows(begin, end),
                      .gradient = gradient.flat().rows(begin, end),
                      .gradient_scale = scale,
                      .rounded = rounded,
                      .learning_rate = learning_rate_at(options_, step),
                      .beta1 = options_.beta1,
                      .beta2 = options_.beta2,
                      .epsilon = options_.epsilon,
                      .weight_decay = weight_decay,
                      .step = step});
  };
  run(0, parameters.decayed(), parameters.rounded(), options_.weight_decay);
  run(parameters.decayed(), parameters.flat().size(), {}, 0);
}

}  // namespace longscan

// Gradients of a sum of losses, summed over lines and ranks, then divided once by the number of
// targets.
#include "model/trainer.h"

#include <array>

#include "dist/gradient_sum.h"
#include "kernels/elementwise.h"
#include "kernels/error.h"

namespace longscan {

Trainer::Trainer(const ModelOptions& model, const OptimizerOptions& optimizer, std::uint64_t seed,
                 Device& device, Mesh& mesh)
    : options_(model),
      seed_(seed),
      device_(device),
      mesh_(mesh),
      parameters_(model, device),
      gradient_(model, device, ParameterUse::sums),
      optimizer_(optimizer, model, device),
      transformer_(model, device, mesh.sequence()) {
  parameters_.initialize(seed);
  transformer_.draw_features(seed_, steps_);
}

void Trainer::accumulate(std::span<const Shard> segments) {
  const DropoutPlan dropout{
      .rate = options_.dropout, .seed = seed_, .line = static_cast<std::uint64_t>(lines_)};
  const LossTotals line =
      transformer_.train(parameters_.weights(), gradient_.weights(), segments, dropout);
  totals_.loss += line.loss;
  totals_.correct += line.correct;
  totals_.tokens += line.tokens;
  ++lines_;
}

StepReport Trainer::update() {
  std::array<double, 3> sums{totals_.loss, totals_.correct, totals_.tokens};
  sum_gradient(mesh_.world(), gradient_.flat(), sums);
  StepReport report{.totals = {.loss = sums[0], .correct = sums[1], .tokens = sums[2]}};
  if (report.totals.tokens == 0) {
    throw Error(ErrorKind::data, {.what = fmt::format("step {} has nothing to predict", steps_ + 1),
                                  .why = "no token of its lines has a target"});
  }
  const Optimizer::Report moved =
      optimizer_.update(parameters_, gradient_, 1 / report.totals.tokens, steps_ + 1);
  report.gradient_norm = moved.gradient_norm;
  report.learning_rate = moved.learning_rate;
  device_.run(Fill{.out = gradient_.flat(), .value = 0});
  totals_ = {};
  ++steps_;
  transformer_.draw_features(seed_, steps_);
  return report;
}

StepReport Trainer::step(std::span<const Shard> segments) {
  accumulate(segments);
  return update();
}

void Trainer::resume_at(std::int64_t steps, std::int64_t lines) {
  steps_ = steps;
  lines_ = lines;
  transformer_.draw_features(seed_, steps_);
}

}  // namespace longscan

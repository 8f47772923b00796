// Gradients of a sum of losses, summed over lines and ranks, then divided once by the number of
// targets.
#include "model/trainer.h"

#include <cmath>
#include <optional>

#include "dist/agreement.h"
#include "dist/gradient_sum.h"
#include "kernels/elementwise.h"
#include "kernels/error.h"
#include "kernels/loss.h"

namespace longscan {

namespace {
constexpr std::int64_t kTotals = 3;  // LossTotals
constexpr std::int64_t kSums = kTotals + 1;
}  // namespace

Trainer::Trainer(const ModelOptions& model, const OptimizerOptions& optimizer, std::uint64_t seed,
                 Device& device, Mesh& mesh)
    : options_(model),
      seed_(seed),
      device_(device),
      mesh_(mesh),
      parameters_(model, device),
      gradient_(model, device, ParameterUse::sums),
      optimizer_(optimizer, model, device),
      transformer_(model, device, mesh.sequence()),
      sums_memory_(device.allocate(kSums * size_of(DType::f64))),
      sums_(Tensor::dense(sums_memory_.data(), DType::f64, {kSums})) {
  parameters_.initialize(seed);
  transformer_.draw_features(seed_, steps_);
}

void Trainer::accumulate(std::span<const Shard> segments) {
  const DropoutPlan dropout{
      .rate = options_.dropout, .seed = seed_, .line = static_cast<std::uint64_t>(lines_)};
  transformer_.train(parameters_.weights(), gradient_.weights(), sums_.rows(0, kTotals), segments,
                     dropout);
  ++lines_;
}

StepReport Trainer::update() {
  const Tensor totals = sums_.rows(0, kTotals);
  device_.run(MarkBadData{totals});
  sum_gradient(mesh_.world(), gradient_.flat(), totals);
  optimizer_.update(parameters_, gradient_, totals.rows(kTotals - 1, kTotals),
                    sums_.rows(kTotals, kSums), steps_ + 1);
  const StepReport report = take_report();
  if (report.totals.tokens == 0) {
    throw Error(ErrorKind::data, {.what = fmt::format("step {} has nothing to predict", steps_ + 1),
                                  .why = "no token of its lines has a target"});
  }
  if (!std::isfinite(report.gradient_norm)) {
    throw Error(ErrorKind::data,
                {.what = fmt::format("the gradient of step {} is not finite", steps_ + 1),
                 .why = "the loss has diverged",
                 .hint = "lower optimizer.learning_rate or set optimizer.clip_norm"});
  }
  ++steps_;
  transformer_.draw_features(seed_, steps_);
  return report;
}

StepReport Trainer::take_report() {
  StepReport report{.learning_rate = learning_rate_at(optimizer_.options(), steps_ + 1)};
  std::optional<Error> bad_data;
  try {
    const Tensor sums = report_.of(device_, sums_);
    report.totals = LossTotals::from(sums);
    report.gradient_norm = sums.as<double>()[kTotals];
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    bad_data = error;
  }
  device_.run(Fill{.out = sums_, .value = 0});
  device_.run(Fill{.out = gradient_.flat(), .value = 0});
  // The rank that met bad data has marked the totals of all.
  if (bad_data || std::isnan(report.totals.tokens)) {
    on_all_ranks(mesh_.world(), [&] {
      if (bad_data) throw Error(*bad_data);
    });
  }
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

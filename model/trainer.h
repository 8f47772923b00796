// A training run: parameters, gradients, optimizer, and what one step does with them over all
// ranks.
#pragma once

#include <cstdint>
#include <span>

#include "dist/mesh.h"
#include "model/optimizer.h"
#include "model/transformer.h"

namespace longscan {

/// What a step did. The totals are those of all ranks.
struct StepReport {
  LossTotals totals;
  double gradient_norm = 0;
  double learning_rate = 0;
};

class Trainer {
 public:
  /// Draws initial parameters and random features from `seed`. `device` and `mesh` must outlive the
  /// trainer.
  Trainer(const ModelOptions& model, const OptimizerOptions& optimizer, std::uint64_t seed,
          Device& device, Mesh& mesh);

  /// Adds the gradient of one line to the step's, in segments: see Transformer::train. Collective
  /// over the sequence group. An optimizer step may take several lines (gradient accumulation). The
  /// host does not wait for the device, unless ranks' data go through host memory or it is lines
  /// ahead.
  void accumulate(std::span<const Shard> segments);

  /// Sums gradients and totals over all ranks, divides by the number of targets, clips, and moves
  /// the parameters; random features are drawn anew where that is due. Collective over all ranks.
  /// The host waits here once, for the report. Throws data on every rank when no rank had a target,
  /// the gradient is not finite, or a GPU has met a token or target beyond the vocabulary (ranks
  /// whose data go through host memory may throw earlier, and alone, as CPUs do); parameters and
  /// moments are then as before the step, which is forgotten.
  StepReport update();

  /// accumulate() of one line and update().
  StepReport step(std::span<const Shard> segments);

  /// For checkpoints: everything that a step changes. Counters are set after a load.
  Parameters& parameters() { return parameters_; }
  Optimizer& optimizer() { return optimizer_; }
  Transformer& transformer() { return transformer_; }
  std::int64_t steps() const { return steps_; }
  std::int64_t lines() const { return lines_; }
  void resume_at(std::int64_t steps, std::int64_t lines);

 private:
  /// Waits for the step, and makes ready for the next one.
  StepReport take_report();

  ModelOptions options_;
  std::uint64_t seed_;
  Device& device_;
  Mesh& mesh_;
  Parameters parameters_;
  Parameters gradient_;
  Optimizer optimizer_;
  Transformer transformer_;
  Buffer sums_memory_;
  // [4] f64: loss, correct and tokens of the step so far, and at its end the gradient's norm.
  Tensor sums_;
  HostCopy report_;
  std::int64_t steps_ = 0;  // optimizer steps done
  std::int64_t lines_ = 0;  // lines seen: the key of dropout
};

}  // namespace longscan

// The course of a training: steps, and between them log lines, evaluations and checkpoints.
#pragma once

#include <filesystem>
#include <optional>

#include "io/configuration.h"
#include "io/loader.h"
#include "io/metrics.h"
#include "launch/resume.h"
#include "launch/session.h"
#include "launch/step_line.h"
#include "model/trainer.h"

namespace longscan {

class TrainingRun {
 public:
  /// Collective, as everything here. All must outlive the run.
  TrainingRun(Session& session, const config::Config& configuration, const TokenStore& store,
              const StartingPoint& start, Device& device, Mesh& mesh);

  /// Trains from the starting point to training.max_steps, once. Throws stopped when a signal has
  /// asked for it, after the step under way and a checkpoint of it.
  void run();

 private:
  void begin();
  double peak_of_all_ranks();
  double communication_seconds() const;
  void take_step();
  /// Whether something that happens every `interval` steps happens now, or at the end.
  bool is_due(std::int64_t interval) const;
  bool is_done() const { return trainer_.steps() >= configuration_.training().max_steps(); }
  void log();
  void evaluate_now();
  void save();
  void write_metrics();
  Progress progress() const;
  void show_progress();

  Session& session_;
  const config::Config& configuration_;
  const TokenStore& store_;
  const StartingPoint& start_;
  Mesh& mesh_;
  Device& device_;
  std::filesystem::path folder_;
  Trainer trainer_;
  Loader loader_;
  ProgressMeter meter_;
  std::optional<MetricsWriter> writer_;  ///< on rank 0
  std::vector<Metric> metrics_;          ///< of this step, to be written
  std::int64_t tokens_seen_ = 0;
};

}  // namespace longscan

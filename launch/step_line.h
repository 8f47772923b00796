// How a run is doing: the numbers of an interval of steps, as a line for people and as metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "io/metrics.h"
#include "model/trainer.h"

namespace longscan {

/// An interval of steps on this rank. Loss and accuracy are of all its tokens on all ranks, norm
/// and rate of its last step, times, memory and communication of this rank.
struct Progress {
  std::int64_t step = 0;   ///< steps done
  std::int64_t steps = 0;  ///< steps of the whole run
  double loss = 0;         ///< nats a target
  double perplexity = 0;
  double accuracy = 0;
  double gradient_norm = 0;
  double learning_rate = 0;
  double seconds_per_step = 0;
  double tokens_per_second = 0;
  double share_of_peak = 0;        ///< of the matrix-product peak of all ranks together
  double memory_bytes = 0;         ///< in use: see Device::memory_used
  double communication_share = 0;  ///< of the time
  double seconds_left = 0;
};

/// Sums up steps until it is reset. What is done between them, while it pauses, does not count.
class ProgressMeter {
 public:
  /// flops_per_token: those of the model, forward and backward. peak: FLOP/s of all ranks.
  ProgressMeter(std::int64_t steps, double flops_per_token, double peak)
      : steps_(steps), flops_per_token_(flops_per_token), peak_(peak) {}

  /// Begins an interval. `communication_seconds`: time in collectives so far.
  void reset(double communication_seconds);
  /// `tokens`: those of the step's lines, whether or not they have a target.
  void add(const StepReport& report, std::int64_t tokens);
  void pause(double communication_seconds);
  void go_on(double communication_seconds);
  /// `step`: steps done so far. At least one was added.
  Progress progress(std::int64_t step, double communication_seconds,
                    std::int64_t memory_bytes) const;

 private:
  using Clock = std::chrono::steady_clock;

  std::int64_t steps_;
  double flops_per_token_;
  double peak_;
  Clock::time_point begin_;
  double communication_begin_ = 0;
  Clock::time_point pause_begin_;
  double communication_pause_begin_ = 0;
  std::int64_t added_ = 0;
  double tokens_ = 0;
  LossTotals totals_;
  StepReport last_;
};

std::string log_line(const Progress& progress);
/// One that fits into `width` columns: what comes last is left out.
std::string live_line(const Progress& progress, int width);
std::vector<Metric> metrics_of(const Progress& progress);

}  // namespace longscan

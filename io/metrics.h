// Metrics of a run: `metrics.jsonl` for programs and an event file for TensorBoard, side by side in
// one folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "io/atomic_file.h"

namespace longscan {

struct Metric {
  std::string name;  ///< the key in metrics.jsonl, the tag in TensorBoard
  double value = 0;
};

/// Writes both files; each call of `write` reaches the operating system before it returns. One
/// writer a folder.
///
/// A line of metrics.jsonl is an object: {"step": 10, "wall_time": 1700000000.125, "loss": 2.5}.
/// Numbers are written so that reading gives the same double. JSON knows neither NaN nor infinity:
/// both are written as null, which readers of tables take for "no number"; TensorBoard gets them as
/// they are.
class MetricsWriter {
 public:
  /// Makes the folder where it is missing. `resume_step` is the step of the checkpoint that the run
  /// goes on from, 0 for a new run: what the folder already says about later steps, before a new
  /// run about all, is cut off metrics.jsonl, as is a line that a killed run left unfinished, and
  /// TensorBoard is told to forget it. Throws io, and data when a whole line of metrics.jsonl has
  /// no step.
  MetricsWriter(const std::filesystem::path& folder, std::int64_t resume_step);

  /// One line and one event. Names must differ from each other and from "step" and "wall_time".
  void write(std::int64_t step, std::span<const Metric> metrics);

 private:
  FileDescriptor lines_;
  FileDescriptor events_;
};

}  // namespace longscan

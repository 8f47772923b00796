// The checkpoints of one run's folder: which there are, where to go on, which ones to drop.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace longscan {

struct CheckpointFile {
  std::int64_t step = 0;
  std::filesystem::path path;
};

/// "step-00000100.h5"
std::string checkpoint_name(std::int64_t step);

/// By step, ascending; damaged ones too. Empty when the folder does not exist.
std::vector<CheckpointFile> list_checkpoints(const std::filesystem::path& folder);

/// Where a run goes on.
struct LatestCheckpoint {
  std::filesystem::path path;  ///< empty: the folder holds no checkpoint, so the run is new
  CheckpointHeader header;     ///< of that checkpoint
  /// For each newer checkpoint that cannot be used, which and why.
  std::vector<std::string> passed_over;
};

/// The checkpoint that FOLDER/latest names, verified; where it is damaged, the one before it, and
/// so on. The caller shows `passed_over`. Throws data when there are checkpoints and none can be
/// used: a run does not begin anew in silence.
LatestCheckpoint find_latest(const std::filesystem::path& folder);

/// Makes `path`, a checkpoint of this folder, the latest.
void set_latest(const std::filesystem::path& folder, const std::filesystem::path& path);

/// Keeps the latest and the `count` - 1 complete ones before it and removes the others; so it
/// removes ones of later steps, which belong to a course that a resume has left. Does nothing when
/// `count` is 0 or no latest is named. Returns what was removed.
std::vector<CheckpointFile> keep_last(const std::filesystem::path& folder, std::int64_t count);

/// Removes what killed writers left: temporaries and manifests without a file. Only the folder's
/// writer may call it.
void remove_leftovers(const std::filesystem::path& folder);

}  // namespace longscan

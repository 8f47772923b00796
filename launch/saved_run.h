// Checkpoints of a run on many ranks: rank 0 reads and writes them, the others hear of it.
//
// A failure of rank 0 is an error on every rank. Everything here is collective.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "io/checkpoint.h"
#include "launch/session.h"
#include "model/trainer.h"

namespace longscan {

/// A checkpoint that rank 0 has found and verified, which reads the file whole.
struct FoundCheckpoint {
  std::filesystem::path path;  ///< empty: there is none
  CheckpointHeader header;
};

/// The latest checkpoint in a run's folder. Says what it passed over.
FoundCheckpoint latest_checkpoint(Session& session, const std::filesystem::path& folder);

/// A checkpoint as a user names it: the file itself, or a run's folder for the latest in it. Throws
/// missing where there is none.
FoundCheckpoint find_checkpoint(Session& session, const std::filesystem::path& named);

/// Fills the parameters of every rank from a checkpoint that was found.
void load_parameters(const Session& session, const std::filesystem::path& path,
                     Parameters& parameters);

/// Fills those parameters that a checkpoint, which was found, has in the same shape; the others
/// keep their values. Says how many these are, and names those that are new and those of the
/// checkpoint that are dropped. Throws usage where none fits.
void take_parameters(Session& session, const FoundCheckpoint& found, Parameters& parameters);

/// Fills parameters and moments of every rank from a checkpoint that was found.
void load_trainer(const Session& session, const std::filesystem::path& path, Trainer& trainer);

/// Writes a checkpoint of `trainer` into the folder and keeps the last `keep` ones (0: all). Says
/// where it is, and what was removed where that is more than the one whose place it takes.
void save_trainer(Session& session, const std::filesystem::path& folder,
                  const CheckpointHeader& header, Trainer& trainer, std::int64_t keep);

/// Runs `body` on rank 0; where it throws, every rank does.
void on_leader(const Session& session, const std::function<void()>& body);

}  // namespace longscan

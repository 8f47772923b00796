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

/// Rank 0 verifies the file, which is read in whole.
CheckpointHeader read_header(const Session& session, const std::filesystem::path& path);

/// Fills the parameters of every rank.
void load_parameters(const Session& session, const std::filesystem::path& path,
                     Parameters& parameters);

/// Fills parameters and moments of every rank.
void load_trainer(const Session& session, const std::filesystem::path& path, Trainer& trainer);

/// Writes a checkpoint of `trainer` into the folder, keeps the last `keep` ones (0: all), and
/// returns its path.
std::filesystem::path save_trainer(const Session& session, const std::filesystem::path& folder,
                                   const CheckpointHeader& header, Trainer& trainer,
                                   std::int64_t keep);

/// Runs `body` on rank 0; where it throws, every rank does.
void on_leader(const Session& session, const std::function<void()>& body);

/// The latest checkpoint in a run's folder; empty where there is none. Says what it passed over.
std::filesystem::path latest_checkpoint(Session& session, const std::filesystem::path& folder);

/// A checkpoint as a user names it: the file itself, or a run's folder for the latest in it. Throws
/// missing where the folder has none.
std::filesystem::path find_checkpoint(Session& session, const std::filesystem::path& named);

}  // namespace longscan

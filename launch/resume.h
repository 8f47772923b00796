// Where a run begins: anew, or at a checkpoint that fits its configuration and data.
#pragma once

#include <filesystem>
#include <string>

#include "io/checkpoint.h"
#include "io/configuration.h"
#include "io/loader.h"
#include "io/token_store.h"
#include "launch/saved_run.h"
#include "launch/session.h"

namespace longscan {

struct StartingPoint {
  std::filesystem::path checkpoint;  ///< empty: the run is new
  CheckpointHeader header;           ///< step 0 where the run is new
  LoaderState loader;
  /// What a new run takes its parameters from as far as they fit; no path: from nowhere.
  FoundCheckpoint origin;

  bool is_new() const { return checkpoint.empty(); }
  bool has_origin() const { return is_new() && !origin.path.empty(); }
};

/// Collective. `resume` is "auto" (the latest checkpoint of the run's folder, or a new run where it
/// has none), "none" (a new run; throws usage where the folder has checkpoints), or the path of a
/// checkpoint or of a folder with some (throws missing where there is none; usage where it is not
/// the run's folder and that has checkpoints already, which the run would replace).
///
/// `init_from` names the checkpoint of another run, or its folder, for the parameters of a new run
/// ("": none). Throws missing where it is not there, usage where its vocabulary is another one.
/// Says so where it is not needed because the run goes on.
///
/// Says which checkpoint it is and what differs from its configuration. Throws usage where the
/// model or the vocabulary differs, since its parameters do not fit then; with "auto" also where
/// the data differ. Where the order of windows has become another one, the run goes on with the
/// next epoch.
StartingPoint find_start(Session& session, const std::string& resume, const std::string& init_from,
                         const config::Config& configuration, const TokenStore& store);

/// Whether a file is in the folder itself, however the two are named.
bool lies_in(const std::filesystem::path& file, const std::filesystem::path& folder);

}  // namespace longscan

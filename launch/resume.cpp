// Which checkpoint a run goes on from, and whether it may.
#include "launch/resume.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "io/checkpoint_folder.h"
#include "kernels/error.h"
#include "launch/settings.h"

namespace longscan {

namespace {

namespace fs = std::filesystem;

/// Unless the run's folder is free or `start` (empty: the run is new) is one of its checkpoints.
/// Collective.
void require_own_folder(const Session& session, const fs::path& start, const fs::path& folder) {
  on_leader(session, [&] {
    if (list_checkpoints(folder).empty()) return;
    if (!start.empty() && lies_in(start, folder)) return;
    throw Error(ErrorKind::usage,
                {.what = "the folder holds checkpoints of another run",
                 .why = start.empty() ? "a new run would replace them"
                                      : "a run from " + start.string() + " would replace them",
                 .hint = "choose another folder with --run, remove this one, or go on with its "
                         "run by --resume=auto",
                 .where = folder.string()});
  });
}

FoundCheckpoint choose(Session& session, const std::string& resume, const fs::path& folder) {
  if (resume == "auto") return latest_checkpoint(session, folder);
  FoundCheckpoint start;
  if (resume != "none") start = find_checkpoint(session, resume);
  require_own_folder(session, start.path, folder);
  return start;
}

/// What parameters must fit: everything about the model but its dropout.
bool fixes_model(std::string_view difference, const ModelOptions& model) {
  return (difference.starts_with("model.") && !difference.starts_with("model.dropout")) ||
         (counts_places(model) && difference.starts_with("data.window"));
}

void require_same_model(const StartingPoint& start, const std::vector<std::string>& differences,
                        const config::Config& configuration, const TokenStore& store) {
  const ModelOptions model = model_options(configuration, store.vocabulary());
  std::vector<std::string> misfits;
  for (const std::string& difference : differences) {
    if (fixes_model(difference, model)) misfits.push_back(difference);
  }
  if (start.header.vocabulary != store.vocabulary().name()) {
    misfits.push_back(
        fmt::format("vocabulary: {} -> {}", start.header.vocabulary, store.vocabulary().name()));
  }
  if (misfits.empty()) return;
  throw Error(
      ErrorKind::usage,
      {.what = fmt::format("the checkpoint's model is another one: {}", fmt::join(misfits, ", ")),
       .why = "its parameters do not fit",
       .hint = "keep the model's configuration, or begin a run in another folder with --run, whose "
               "parameters --init-from takes from here as far as they fit",
       .where = start.checkpoint.string()});
}

void require_same_data(const StartingPoint& start, const TokenStore& store) {
  if (start.header.data_hash == store.content_hash()) return;
  throw Error(
      ErrorKind::usage,
      {.what = fmt::format("the run was trained on other data than {}", store.path().string()),
       .why = fmt::format("its data have the hash {:.12}, these {:.12}", start.header.data_hash,
                          store.content_hash()),
       .hint = "give it its token store, or begin a run in another folder with "
               "--resume=CHECKPOINT to train on with these data",
       .where = start.checkpoint.string()});
}

/// Where the parameters of a new run come from. Collective.
FoundCheckpoint find_origin(Session& session, const std::string& named, const TokenStore& store) {
  FoundCheckpoint origin = find_checkpoint(session, named);
  if (origin.header.vocabulary == store.vocabulary().name()) return origin;
  throw Error(
      ErrorKind::usage,
      {.what = fmt::format("the checkpoint's vocabulary is '{}'", origin.header.vocabulary),
       .why = fmt::format("that of {} is '{}'", store.path().string(), store.vocabulary().name()),
       .hint = "name another checkpoint with --init-from, or other data with --data",
       .where = origin.path.string()});
}

/// Whether the checkpoint's place in the order of windows means the same now.
bool same_order(const std::vector<std::string>& differences) {
  return std::none_of(differences.begin(), differences.end(), [](const std::string& difference) {
    return difference.starts_with("data.window") || difference.starts_with("training.seed");
  });
}

}  // namespace

bool lies_in(const fs::path& file, const fs::path& folder) {
  std::error_code not_there;  // a folder that is not there yet holds nothing
  return fs::equivalent(fs::absolute(file).parent_path(), folder, not_there);
}

StartingPoint find_start(Session& session, const std::string& resume, const std::string& init_from,
                         const config::Config& configuration, const TokenStore& store) {
  const FoundCheckpoint found = choose(session, resume, configuration.training().folder());
  StartingPoint start{.checkpoint = found.path, .header = found.header};
  if (start.is_new()) {
    if (!init_from.empty()) start.origin = find_origin(session, init_from, store);
    return start;
  }
  if (!init_from.empty()) session.say("--init-from is not needed: the run goes on");
  const config::Config before =
      configuration_from_text(start.header.configuration, start.checkpoint.string());
  const std::vector<std::string> differences = config_differences(before, configuration);
  require_same_model(start, differences, configuration, store);
  if (resume == "auto") require_same_data(start, store);

  session.say("resuming from {} at step {}", start.checkpoint.string(), grouped(start.header.step));
  for (const std::string& difference : differences) session.say("  changed  {}", difference);
  start.loader = {.epoch = start.header.loader_epoch, .window = start.header.loader_window};
  if (start.header.data_hash != store.content_hash()) {
    session.say("  the data are other ones: they are read from their beginning");
    start.loader = {};
  } else if (!same_order(differences)) {
    session.say("  the order of windows is another one: it begins with the next epoch");
    start.loader = {.epoch = start.header.loader_epoch + 1, .window = 0};
  }
  return start;
}

}  // namespace longscan

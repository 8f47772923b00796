// `longscan inspect`: what a file or a folder of this program holds, after its checksums.
#include <filesystem>

#include "io/checkpoint.h"
#include "io/checkpoint_folder.h"
#include "io/manifest.h"
#include "io/token_store.h"
#include "kernels/error.h"
#include "launch/saved_run.h"
#include "launch/token_store_report.h"
#include "launch/verbs.h"

namespace longscan {

namespace {

namespace fs = std::filesystem;

void inspect_store(Session& session, const fs::path& path) {
  const TokenStore store(path);
  session.say("{}: a token store, {}", path.string(),
              bytes_text(static_cast<double>(fs::file_size(path))));
  say_reading(session, store.report());
  session.say("");
  say_contents(session, summarize(store), store.vocabulary(), store.content_hash());
}

/// `header` is that of the file, which was verified for it.
void inspect_checkpoint(Session& session, const fs::path& path, const CheckpointHeader& header) {
  session.say("{}: a checkpoint, {}, size and SHA-256 as in its manifest", path.string(),
              bytes_text(static_cast<double>(fs::file_size(path))));
  session.say("step {}, {} tokens seen, next is window {} of epoch {}", grouped(header.step),
              grouped(header.tokens_seen), header.loader_window, header.loader_epoch);
  session.say("vocabulary {}, seed {}, data {:.12}", header.vocabulary, header.seed,
              header.data_hash);
  session.say("\n{}", header.configuration);
  std::int64_t parameters = 0;
  for (const StoredTensor& tensor : list_parameters(path, Verified::before)) {
    std::int64_t size = 1;
    for (const std::int64_t extent : tensor.shape) size *= extent;
    session.say("{:<48}{} [{}]", tensor.name, name_of(tensor.dtype), fmt::join(tensor.shape, ", "));
    parameters += size;
  }
  session.say("{} parameters", grouped(parameters));
}

void inspect_run(Session& session, const fs::path& folder) {
  const std::vector<CheckpointFile> checkpoints = list_checkpoints(folder);
  if (checkpoints.empty()) {
    throw Error(ErrorKind::missing, {.what = "the folder holds no checkpoint",
                                     .hint = "name a token store, a checkpoint or a run's folder",
                                     .where = folder.string()});
  }
  session.say("{}: a run with {}", folder.string(), counted(std::ssize(checkpoints), "checkpoint"));
  for (const CheckpointFile& checkpoint : checkpoints) {
    session.say("  {}  {}", checkpoint.path.filename().string(),
                bytes_text(static_cast<double>(fs::file_size(checkpoint.path))));
  }
  const LatestCheckpoint latest = find_latest(folder);
  for (const std::string& reason : latest.passed_over) {
    session.say("passed over a checkpoint: {}", reason);
  }
  session.say("");
  inspect_checkpoint(session, latest.path, latest.header);
}

/// A checkpoint can be told by its name or by its manifest.
bool is_checkpoint(const fs::path& path) {
  return fs::exists(manifest_of(path)) ||
         (path.filename().string().starts_with("step-") && path.extension() == ".h5");
}

}  // namespace

void Inspect::declare(CLI::App& app) {
  app.add_option("path", path_, "a token store, a checkpoint or a run's folder");
  CLI::App* attention =
      app.add_subcommand("attention", "write and draw the attention matrices of a record");
  attention_.declare(*attention);
  of_attention_ = attention;
  CLI::App* similarity =
      app.add_subcommand("similarity", "write and draw how much amino acids attend to each other");
  similarity_.declare(*similarity);
  of_similarity_ = similarity;
  app.require_subcommand(0, 1);
  app.parse_complete_callback([this, &app] {
    const bool looks_into_a_model = !app.get_subcommands().empty();
    if (path_.empty() && !looks_into_a_model) {
      throw CLI::RequiredError("path, attention or similarity");
    }
    if (!path_.empty() && looks_into_a_model)
      throw CLI::ExcludesError("path", "attention, similarity");
  });
}

void Inspect::run(Session& session) const {
  if (of_attention_->parsed()) return attention_.run(session);
  if (of_similarity_->parsed()) return similarity_.run(session);
  on_leader(session, [&] {
    if (fs::is_directory(path_)) {
      inspect_run(session, path_);
    } else if (is_checkpoint(path_)) {
      inspect_checkpoint(session, path_, read_checkpoint_header(path_));
    } else {
      inspect_store(session, path_);
    }
  });
}

}  // namespace longscan

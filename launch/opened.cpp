// The ways from a name on the command line to a store or a model.
#include "launch/opened.h"

#include "kernels/error.h"
#include "launch/saved_run.h"
#include "launch/settings.h"

namespace longscan {

TokenStore open_store(const std::string& path) {
  if (!path.empty()) return TokenStore(path);
  throw Error(ErrorKind::usage,
              {.what = "there is no data to read",
               .why = "data.store is empty",
               .hint = "name a token store with --data; `longscan pack` makes one",
               .where = "configuration"});
}

OpenedCheckpoint open_checkpoint(Session& session, const std::string& named) {
  const std::filesystem::path path = find_checkpoint(session, named);
  CheckpointHeader header = read_header(session, path);
  config::Config configuration = configuration_from_text(header.configuration, path.string());
  Vocabulary vocabulary = Vocabulary::named(header.vocabulary);
  return {.path = path,
          .header = std::move(header),
          .configuration = std::move(configuration),
          .vocabulary = std::move(vocabulary)};
}

Parameters load_model(const Session& session, const OpenedCheckpoint& checkpoint, Device& device) {
  Parameters parameters(model_options(checkpoint.configuration, checkpoint.vocabulary), device);
  load_parameters(session, checkpoint.path, parameters);
  return parameters;
}

}  // namespace longscan

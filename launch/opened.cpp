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
  FoundCheckpoint found = find_checkpoint(session, named);
  config::Config configuration =
      configuration_from_text(found.header.configuration, found.path.string());
  Vocabulary vocabulary = Vocabulary::named(found.header.vocabulary);
  return {.path = std::move(found.path),
          .header = std::move(found.header),
          .configuration = std::move(configuration),
          .vocabulary = std::move(vocabulary)};
}

std::int32_t opening(const OpenedCheckpoint& checkpoint) {
  return checkpoint.configuration.data().isolate_records() ? checkpoint.vocabulary.begin()
                                                           : checkpoint.vocabulary.end();
}

ModelOptions model_of(const OpenedCheckpoint& checkpoint, DType dtype) {
  ModelOptions model = model_options(checkpoint.configuration, checkpoint.vocabulary);
  model.dtype = dtype;
  return model;
}

Parameters load_model(const Session& session, const OpenedCheckpoint& checkpoint,
                      const ModelOptions& model, Device& device) {
  Parameters parameters(model, device);
  load_parameters(session, checkpoint.path, parameters);
  return parameters;
}

}  // namespace longscan

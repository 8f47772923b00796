// A checkpoint's model and a token store, opened by those verbs that do not train.
#pragma once

#include <filesystem>
#include <string>

#include "io/checkpoint.h"
#include "io/configuration.h"
#include "io/token_store.h"
#include "launch/session.h"
#include "model/parameters.h"

namespace longscan {

/// Opens the token store that the configuration or --data names. Throws usage where it names none.
TokenStore open_store(const std::string& path);

/// What a checkpoint says of itself.
struct OpenedCheckpoint {
  std::filesystem::path path;
  CheckpointHeader header;
  config::Config configuration;
  Vocabulary vocabulary;
};

/// Collective. `named` is a checkpoint or a run's folder.
OpenedCheckpoint open_checkpoint(Session& session, const std::string& named);

/// The token that stands before a record's first letter: where windows hold many records, that is
/// the end of the record before.
std::int32_t opening(const OpenedCheckpoint& checkpoint);

/// The checkpoint's model, to be computed in `dtype`.
ModelOptions model_of(const OpenedCheckpoint& checkpoint, DType dtype);

/// Collective. Its parameters.
Parameters load_model(const Session& session, const OpenedCheckpoint& checkpoint,
                      const ModelOptions& model, Device& device);

}  // namespace longscan

// From configuration and flags to the options of the other rooms.
#pragma once

#include <string>
#include <vector>

#include "io/configuration.h"
#include "io/loader.h"
#include "io/vocabulary.h"
#include "model/optimizer.h"
#include "model/options.h"

namespace longscan {

/// Whether the model has parameters for every place in a document: learned positions and linformer
/// have.
bool counts_places(const ModelOptions& model);

/// Each place in a window gets its entry where the model counts places.
/// As training computes it: in its precision.
ModelOptions trained_model(const config::Config& configuration, const Vocabulary& vocabulary);

ModelOptions model_options(const config::Config& configuration, const Vocabulary& vocabulary);
/// The schedule ends at training.max_steps.
OptimizerOptions optimizer_options(const config::Config& configuration);
/// Of the training split, shuffled and without end.
LoaderOptions training_options(const config::Config& configuration);
/// Of a split in its own order, once.
LoaderOptions evaluation_options(const config::Config& configuration, Split split);

/// The split of that name. Throws usage.
Split split_named(const std::string& name);

/// `file` ("": defaults) with the assignments `KEY=VALUE` on top of it in order, resolved and
/// validated. Throws what io/configuration.h throws.
config::Config assemble(const std::string& file, const std::vector<std::string>& assignments);

}  // namespace longscan

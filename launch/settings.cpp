// Each enumeration of io/config.proto beside its counterpart in `model`.
#include "launch/settings.h"

#include <array>

#include "io/spelling.h"
#include "kernels/error.h"

namespace longscan {

namespace {

Positions positions_of(config::Model::Positions positions) {
  switch (positions) {
    case config::Model::sinusoidal:
      return Positions::sinusoidal;
    case config::Model::learned:
      return Positions::learned;
    case config::Model::rotary:
      return Positions::rotary;
    case config::Model::none:
      return Positions::none;
  }
  return Positions::none;
}

MlpKind mlp_of(config::Model::Mlp mlp) {
  switch (mlp) {
    case config::Model::gelu:
      return MlpKind::gelu;
    case config::Model::relu:
      return MlpKind::relu;
    case config::Model::swiglu:
      return MlpKind::swiglu;
  }
  return MlpKind::gelu;
}

AttentionKind kind_of(config::Attention::Kind kind) {
  switch (kind) {
    case config::Attention::elu1:
      return AttentionKind::elu1;
    case config::Attention::relu:
      return AttentionKind::relu;
    case config::Attention::favor_softmax:
      return AttentionKind::favor_softmax;
    case config::Attention::favor_hyperbolic:
      return AttentionKind::favor_hyperbolic;
    case config::Attention::favor_relu:
      return AttentionKind::favor_relu;
    case config::Attention::linformer:
      return AttentionKind::linformer;
    case config::Attention::softmax:
      return AttentionKind::softmax;
    case config::Attention::identity:
      return AttentionKind::identity;
  }
  return AttentionKind::elu1;
}

LinformerSharing sharing_of(config::Attention::Sharing sharing) {
  switch (sharing) {
    case config::Attention::none:
      return LinformerSharing::none;
    case config::Attention::headwise:
      return LinformerSharing::headwise;
    case config::Attention::key_value:
      return LinformerSharing::key_value;
    case config::Attention::layerwise:
      return LinformerSharing::layerwise;
  }
  return LinformerSharing::headwise;
}

AttentionOptions attention_options(const config::Attention& attention) {
  const bool regularized = attention.row_norms() == config::Attention::regularized;
  return {.kind = kind_of(attention.kind()),
          .features = attention.features(),
          .orthogonal = attention.orthogonal(),
          .row_norms = regularized ? RowNorms::regularized : RowNorms::chi,
          .redraw_interval = attention.redraw_interval(),
          .projected_length = attention.projected_length(),
          .sharing = sharing_of(attention.sharing())};
}

Objective objective_of(config::Training::Objective objective) {
  switch (objective) {
    case config::Training::next_token:
      return Objective::next_token;
    case config::Training::masked_token:
      return Objective::masked_token;
  }
  return Objective::next_token;
}

Schedule schedule_of(config::Optimizer::Schedule schedule) {
  switch (schedule) {
    case config::Optimizer::constant:
      return Schedule::constant;
    case config::Optimizer::cosine:
      return Schedule::cosine;
    case config::Optimizer::linear:
      return Schedule::linear;
  }
  return Schedule::constant;
}

}  // namespace

bool counts_places(const ModelOptions& model) {
  return model.positions == Positions::learned ||
         model.first_with(AttentionKind::linformer) < model.layers;
}

ModelOptions model_options(const config::Config& configuration, const Vocabulary& vocabulary) {
  const config::Model& model = configuration.model();
  ModelOptions options{
      .vocabulary = vocabulary.size(),
      .width = model.width(),
      .layers = model.layers(),
      .heads = model.heads(),
      .hidden = model.hidden(),
      .positions = positions_of(model.positions()),
      .norm = model.norm() == config::Model::rms_norm ? NormKind::rms_norm : NormKind::layer_norm,
      .mlp = mlp_of(model.mlp()),
      .tied_embedding = model.tied_embedding(),
      .dropout = model.dropout(),
      .causal = model.causal(),
      .reversible = model.reversible(),
      .attention = attention_options(model.attention())};
  if (!model.layer_override().empty()) {
    for (const config::Attention& attention : attention_of_layers(model)) {
      options.layer_attention.push_back(attention_options(attention));
    }
  }
  if (counts_places(options)) options.longest_document = configuration.data().window();
  return options;
}

ModelOptions trained_model(const config::Config& configuration, const Vocabulary& vocabulary) {
  ModelOptions options = model_options(configuration, vocabulary);
  if (configuration.training().precision() == config::Training::bf16) options.dtype = DType::bf16;
  return options;
}

OptimizerOptions optimizer_options(const config::Config& configuration) {
  const config::Optimizer& optimizer = configuration.optimizer();
  return {.learning_rate = optimizer.learning_rate(),
          .beta1 = optimizer.beta1(),
          .beta2 = optimizer.beta2(),
          .epsilon = optimizer.epsilon(),
          .weight_decay = optimizer.weight_decay(),
          .warmup_steps = optimizer.warmup_steps(),
          .schedule = schedule_of(optimizer.schedule()),
          .final_fraction = optimizer.final_fraction(),
          .total_steps = configuration.training().max_steps(),
          .clip_norm = optimizer.clip_norm()};
}

LoaderOptions training_options(const config::Config& configuration) {
  return {.split = Split::train,
          .window = configuration.data().window(),
          .batch = configuration.data().batch(),
          .isolate_records = configuration.data().isolate_records(),
          .seed = configuration.training().seed(),
          .objective = objective_of(configuration.training().objective())};
}

LoaderOptions evaluation_options(const config::Config& configuration, Split split) {
  LoaderOptions options = training_options(configuration);
  options.split = split;
  options.shuffle = false;
  options.repeat = false;
  return options;
}

Split split_named(const std::string& name) {
  std::vector<std::string> names;
  for (const Split split : kSplits) {
    if (name == name_of(split)) return split;
    names.emplace_back(name_of(split));
  }
  throw Error(ErrorKind::usage, {.what = fmt::format("there is no split '{}'", name),
                                 .hint = suggestion(name, names),
                                 .where = "--split"});
}

config::Config assemble(const std::string& file, const std::vector<std::string>& assignments) {
  config::Config configuration = file.empty() ? config::Config() : read_configuration(file);
  for (const std::string& assignment : assignments) apply_override(configuration, assignment);
  configuration = resolved(configuration);
  validate(configuration);
  return configuration;
}

}  // namespace longscan

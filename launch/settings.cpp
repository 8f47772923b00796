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

AttentionKind attention_kind_of(config::Attention::Kind kind) {
  switch (kind) {
    case config::Attention::elu1:
      return AttentionKind::elu1;
  }
  return AttentionKind::elu1;
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

ModelOptions model_options(const config::Config& configuration, const Vocabulary& vocabulary) {
  const config::Model& model = configuration.model();
  const bool learned = model.positions() == config::Model::learned;
  return {
      .vocabulary = vocabulary.size(),
      .width = model.width(),
      .layers = model.layers(),
      .heads = model.heads(),
      .hidden = model.hidden(),
      .positions = positions_of(model.positions()),
      .longest_document = learned ? configuration.data().window() : 0,
      .norm = model.norm() == config::Model::rms_norm ? NormKind::rms_norm : NormKind::layer_norm,
      .mlp = mlp_of(model.mlp()),
      .tied_embedding = model.tied_embedding(),
      .dropout = model.dropout(),
      .attention = {.kind = attention_kind_of(model.attention().kind())}};
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
          .seed = configuration.training().seed()};
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

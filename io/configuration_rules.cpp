// The rules that the values of a configuration keep, each said in words when it is broken.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "io/configuration.h"
#include "io/text_format.h"
#include "kernels/error.h"

namespace longscan {

namespace {

// Far above what anybody trains and low enough that no product of two or three sizes overflows.
constexpr std::int64_t kMostUnits = std::int64_t{1} << 20;
constexpr std::int64_t kMostLayers = std::int64_t{1} << 16;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
constexpr std::int64_t kMostRanks = std::int64_t{1} << 20;
constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

template <class Value>
[[noreturn]] void refuse(const char* key, const Value& value, const std::string& rule,
                         const std::string& hint = {}) {
  throw Error(ErrorKind::usage, {.what = fmt::format("{} = {} cannot be used", key, value),
                                 .why = fmt::format("it must {}", rule),
                                 .hint = hint,
                                 .where = "configuration"});
}

void require_integer(const char* key, std::int64_t value, std::int64_t least,
                     std::int64_t most = kNoLimit) {
  if (value < least) refuse(key, value, fmt::format("be at least {}", least));
  if (value > most) refuse(key, value, fmt::format("be at most {}", most));
}

/// `holds` compares the value, so it is false for NaN; infinity is refused here.
void require_number(const char* key, double value, bool holds, const char* rule) {
  if (!holds || !std::isfinite(value)) refuse(key, value, rule);
}

void validate_data(const config::Data& data) {
  require_integer("data.window", data.window(), 1, kMostTokens);
  require_integer("data.batch", data.batch(), 1, kMostTokens);
  if (data.batch() > kMostTokens / data.window()) {
    refuse("data.batch", data.batch(),
           fmt::format("keep a line of data.batch * data.window (= {}) tokens within {}",
                       data.window(), kMostTokens));
  }
}

void validate_model(const config::Model& model) {
  require_integer("model.width", model.width(), 1, kMostUnits);
  require_integer("model.layers", model.layers(), 1, kMostLayers);
  require_integer("model.heads", model.heads(), 1, kMostUnits);
  require_integer("model.hidden", model.hidden(), 1, kMostUnits);
  if (model.width() % model.heads() != 0) {
    refuse("model.heads", model.heads(), fmt::format("divide model.width = {}", model.width()));
  }
  const std::int64_t head_dimension = model.width() / model.heads();
  if (model.positions() == config::Model::rotary && head_dimension % 2 != 0) {
    refuse(
        "model.positions", "rotary",
        fmt::format("have heads of an even size, model.width / model.heads is {}", head_dimension),
        "change model.heads or choose other positions");
  }
  if (model.positions() == config::Model::sinusoidal && model.width() % 2 != 0) {
    refuse("model.positions", "sinusoidal",
           fmt::format("have an even model.width, which is {}", model.width()));
  }
  const double dropout = model.dropout();
  require_number("model.dropout", dropout, dropout >= 0 && dropout < 1,
                 "be at least 0 and less than 1");
}

[[noreturn]] void refuse_override(const std::string& entry, const std::string& rule,
                                  const std::string& hint = {}) {
  refuse("model.layer_override", fmt::format("{{ {} }}", entry), rule, hint);
}

/// A rule that a layer's attention breaks together with other keys.
[[noreturn]] void refuse_layer(std::size_t layer, const config::Attention& attention,
                               const std::string& what, const std::string& why,
                               const std::string& hint) {
  const std::string& kind = config::Attention::Kind_Name(attention.kind());
  throw Error(ErrorKind::usage,
              {.what = fmt::format("layer {} attends with {}, {}", layer, kind, what),
               .why = why,
               .hint = hint,
               .where = "configuration"});
}

void validate_attention(const std::string& section, const config::Attention& attention) {
  const auto require_within = [&](const char* key, std::int64_t value, std::int64_t least,
                                  std::int64_t most) {
    require_integer((section + key).c_str(), value, least, most);
  };
  require_within(".features", attention.features(), 1, kMostUnits);
  require_within(".redraw_interval", attention.redraw_interval(), 0, kNoLimit);
  require_within(".projected_length", attention.projected_length(), 1, kMostUnits);
}

/// `first`: the first layer with linformer.
void validate_linformer(std::size_t layer, const config::Attention& attention,
                        const config::Attention& first, const config::Config& configuration) {
  const config::Model& model = configuration.model();
  if (model.causal()) {
    refuse_layer(layer, attention, "which cannot be causal",
                 "it mixes all places of a document before it attends",
                 "set model.causal=false, or choose another kind");
  }
  const bool shares = attention.sharing() == config::Attention::layerwise;
  if (shares != (first.sharing() == config::Attention::layerwise) ||
      (shares && attention.projected_length() != first.projected_length())) {
    refuse_layer(layer, attention, "whose projection is not the one of the other layers",
                 "with the sharing layerwise all layers of this kind have one in common",
                 "give them the same sharing and projected_length");
  }
  const std::int64_t heads =
      attention.sharing() == config::Attention::none ? model.heads() : std::int64_t{1};
  const std::int64_t rows = heads * attention.projected_length();
  if (rows <= kMostTokens / configuration.data().window()) return;
  refuse(
      "model.attention.projected_length", attention.projected_length(),
      fmt::format("keep a projection of {} rows and data.window (= {}) columns within {} numbers",
                  rows, configuration.data().window(), kMostTokens));
}

/// Whether the line is cut in time.
bool has_segments(const config::Config& configuration) {
  const std::int64_t line = configuration.data().batch() * configuration.data().window();
  const std::int64_t segment = configuration.training().segment();
  return segment > 0 && segment < line;
}

void validate_segments(std::size_t layer, const config::Attention& attention, bool causal) {
  if (attention.kind() == config::Attention::identity) return;
  const char* hint = "set training.segment=0, or choose another kind";
  if (attention.kind() == config::Attention::softmax ||
      attention.kind() == config::Attention::linformer) {
    refuse_layer(layer, attention, "which takes the line in one segment",
                 "segments hand on a state that looks back, and it needs all tokens at once", hint);
  }
  if (causal) return;
  refuse_layer(layer, attention, "which takes the line in one segment where model.causal is false",
               "segments hand on a state that looks back, and it looks ahead as well",
               "set training.segment=0 or model.causal=true");
}

void validate_layers(const config::Config& configuration) {
  validate_attention("model.attention", configuration.model().attention());
  for (const config::LayerOverride& entry : configuration.model().layer_override()) {
    validate_attention("model.layer_override.attention", entry.attention());
  }
  const std::vector<config::Attention> layers = attention_of_layers(configuration.model());
  const config::Attention* linformer = nullptr;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const config::Attention& attention = layers[layer];
    if (attention.kind() == config::Attention::linformer) {
      if (linformer == nullptr) linformer = &attention;
      validate_linformer(layer, attention, *linformer, configuration);
    }
    if (has_segments(configuration)) {
      validate_segments(layer, attention, configuration.model().causal());
    }
  }
}

void validate_objective(const config::Config& configuration) {
  if (configuration.model().causal()) return;
  if (configuration.training().objective() != config::Training::next_token) return;
  throw Error(ErrorKind::usage,
              {.what = "training.objective = next_token cannot be used with model.causal = false",
               .why = "a token would see the one that it is to predict",
               .hint = "set training.objective=masked_token or model.causal=true",
               .where = "configuration"});
}

void validate_optimizer(const config::Optimizer& optimizer) {
  const auto require_positive = [](const char* key, double value) {
    require_number(key, value, value > 0, "be a finite number above 0");
  };
  const auto require_not_negative = [](const char* key, double value) {
    require_number(key, value, value >= 0, "be a finite number, 0 or more");
  };
  const auto require_decay = [](const char* key, double value) {
    require_number(key, value, value >= 0 && value < 1, "be at least 0 and less than 1");
  };
  require_positive("optimizer.learning_rate", optimizer.learning_rate());
  require_decay("optimizer.beta1", optimizer.beta1());
  require_decay("optimizer.beta2", optimizer.beta2());
  require_positive("optimizer.epsilon", optimizer.epsilon());
  require_not_negative("optimizer.weight_decay", optimizer.weight_decay());
  require_integer("optimizer.warmup_steps", optimizer.warmup_steps(), 0);
  const double fraction = optimizer.final_fraction();
  require_number("optimizer.final_fraction", fraction, fraction >= 0 && fraction <= 1,
                 "lie between 0 and 1");
  require_not_negative("optimizer.clip_norm", optimizer.clip_norm());
  require_integer("optimizer.accumulation", optimizer.accumulation(), 1, kMostTokens);
}

void validate_training(const config::Training& training) {
  require_integer("training.max_steps", training.max_steps(), 0);
  require_integer("training.segment", training.segment(), 0, kMostTokens);
  require_integer("training.log_every", training.log_every(), 0);
  require_integer("training.eval_every", training.eval_every(), 0);
  require_integer("training.eval_windows", training.eval_windows(), 0);
  require_integer("training.save_every", training.save_every(), 0);
  require_integer("training.keep_last", training.keep_last(), 0);
  if (training.folder().empty()) refuse("training.folder", "''", "name a folder");
}

}  // namespace

std::vector<config::Attention> attention_of_layers(const config::Model& model) {
  std::vector<config::Attention> layers(static_cast<std::size_t>(model.layers()),
                                        model.attention());
  std::vector<bool> overridden(layers.size());
  for (const config::LayerOverride& entry : model.layer_override()) {
    if (entry.layers().empty()) {
      refuse_override(print_text_format(entry, true), "name layers", "as in `layers: [1, 3]`");
    }
    if (!entry.has_attention()) refuse_override(print_text_format(entry, true), "set attention");
    for (const std::int64_t layer : entry.layers()) {
      if (layer < 0 || layer >= model.layers()) {
        refuse_override(fmt::format("layers: {}", layer),
                        fmt::format("name layers 0 to {}", model.layers() - 1));
      }
      const auto place = static_cast<std::size_t>(layer);
      if (overridden[place]) {
        refuse_override(fmt::format("layers: {}", layer), "name every layer once at most");
      }
      overridden[place] = true;
      layers[place].MergeFrom(entry.attention());
    }
  }
  return layers;
}

void validate(const config::Config& configuration) {
  validate_data(configuration.data());
  validate_model(configuration.model());
  validate_objective(configuration);
  validate_layers(configuration);
  validate_optimizer(configuration.optimizer());
  validate_training(configuration.training());
  require_integer("parallel.sequence", configuration.parallel().sequence(), 0, kMostRanks);
  require_integer("parallel.threads", configuration.parallel().threads(), 0, kMostRanks);
}

}  // namespace longscan

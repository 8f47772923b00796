// The rules that a model's sizes must keep.
#include "model/options.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace longscan {

namespace {
void demand(bool holds, const char* option, const char* rule) {
  if (holds) return;
  throw Error(ErrorKind::usage,
              {.what = std::string("model option ") + option + " is out of range", .why = rule});
}

void check_attention(const AttentionOptions& attention, const ModelOptions& model) {
  demand(!is_favor(attention.kind) || attention.features > 0, "attention.features",
         "favor_softmax, favor_hyperbolic and favor_relu need at least one random projection");
  demand(attention.redraw_interval >= 0, "attention.redraw_interval", "it is 0 (never) or more");
  if (attention.kind != AttentionKind::linformer) return;
  demand(!model.causal, "attention.kind",
         "linformer mixes all places of a document before it attends, so it cannot be causal");
  demand(attention.projected_length > 0, "attention.projected_length", "it is at least 1");
  const AttentionOptions& first = model.attention_of(model.first_with(AttentionKind::linformer));
  const bool shared = attention.sharing == LinformerSharing::layerwise;
  demand(shared == (first.sharing == LinformerSharing::layerwise) &&
             (!shared || first.projected_length == attention.projected_length),
         "attention.sharing", "layers that share one projection all do, with the same length");
  demand(model.longest_document > 0, "longest_document",
         "linformer's projections have an entry for every place in a document");
}
}  // namespace

bool is_favor(AttentionKind kind) {
  return kind == AttentionKind::favor_softmax || kind == AttentionKind::favor_hyperbolic ||
         kind == AttentionKind::favor_relu;
}

bool is_linear(AttentionKind kind) {
  return kind == AttentionKind::elu1 || kind == AttentionKind::relu || is_favor(kind);
}

const char* name_of(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::elu1:
      return "elu1";
    case AttentionKind::relu:
      return "relu";
    case AttentionKind::favor_softmax:
      return "favor_softmax";
    case AttentionKind::favor_hyperbolic:
      return "favor_hyperbolic";
    case AttentionKind::favor_relu:
      return "favor_relu";
    case AttentionKind::linformer:
      return "linformer";
    case AttentionKind::softmax:
      return "softmax";
    case AttentionKind::identity:
      return "identity";
  }
  return "";
}

ModelOptions::StateShape ModelOptions::state_shape(std::int64_t layer) const {
  const AttentionOptions& chosen = attention_of(layer);
  switch (chosen.kind) {
    case AttentionKind::elu1:
    case AttentionKind::relu:
      return {head_dim(), head_dim() + 1};
    // The scaled maps carry the exponent of each feature beside its sums.
    case AttentionKind::favor_softmax:
      return {chosen.features, head_dim() + 2};
    case AttentionKind::favor_hyperbolic:
      return {2 * chosen.features, head_dim() + 2};
    case AttentionKind::favor_relu:
      return {chosen.features, head_dim() + 1};
    case AttentionKind::linformer:
      return {chosen.projected_length, 2 * head_dim()};
    case AttentionKind::softmax:
    case AttentionKind::identity:
      break;
  }
  return {};
}

std::int64_t ModelOptions::first_with(AttentionKind kind) const {
  std::int64_t layer = 0;
  while (layer < layers && attention_of(layer).kind != kind) ++layer;
  return layer;
}

bool ModelOptions::has_exponents(std::int64_t layer) const {
  const AttentionKind kind = attention_of(layer).kind;
  return kind == AttentionKind::favor_softmax || kind == AttentionKind::favor_hyperbolic;
}

bool ModelOptions::takes_segments() const {
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const AttentionKind kind = attention_of(layer).kind;
    if (kind != AttentionKind::identity && !(causal && is_linear(kind))) return false;
  }
  return true;
}

void ModelOptions::check() const {
  demand(vocabulary > 0, "vocabulary", "it is at least 1");
  demand(width > 0 && layers > 0 && hidden > 0, "width, layers, hidden", "they are at least 1");
  demand(heads > 0 && width % heads == 0, "heads", "it divides width");
  demand(positions != Positions::rotary || head_dim() % 2 == 0, "heads",
         "rotary positions turn pairs, so width / heads is even");
  demand(positions != Positions::sinusoidal || width % 2 == 0, "width",
         "sinusoidal positions come in pairs, so width is even");
  demand(positions != Positions::learned || longest_document > 0, "longest_document",
         "learned positions need a table with an entry for every place in a document");
  demand(dropout >= 0 && dropout < 1, "dropout", "it is in [0, 1)");
  demand(layer_attention.empty() || static_cast<std::int64_t>(layer_attention.size()) == layers,
         "layer_attention", "it has one entry a layer, or none");
  for (std::int64_t layer = 0; layer < layers; ++layer) check_attention(attention_of(layer), *this);
  demand(dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16, "dtype",
         "it is f32, f64 or bf16");
}

}  // namespace longscan

// Every kind of attention in every form that there is, on models small enough for double.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "model/options.h"

namespace longscan::test {

struct AttentionForm {
  AttentionKind kind;
  bool causal;
  LinformerSharing sharing = LinformerSharing::headwise;
};

inline std::vector<AttentionForm> all_attention_forms() {
  std::vector<AttentionForm> forms;
  for (const AttentionKind kind :
       {AttentionKind::elu1, AttentionKind::relu, AttentionKind::favor_softmax,
        AttentionKind::favor_hyperbolic, AttentionKind::favor_relu, AttentionKind::softmax,
        AttentionKind::identity}) {
    forms.push_back({kind, true});
    forms.push_back({kind, false});
  }
  for (const LinformerSharing sharing :
       {LinformerSharing::none, LinformerSharing::headwise, LinformerSharing::key_value,
        LinformerSharing::layerwise}) {
    forms.push_back({AttentionKind::linformer, false, sharing});
  }
  return forms;
}

inline std::string name_of(const AttentionForm& form) {
  std::string name = longscan::name_of(form.kind);
  if (form.kind == AttentionKind::linformer) {
    const char* sharings[] = {"none", "headwise", "key_value", "layerwise"};
    return name + "_" + sharings[static_cast<int>(form.sharing)];
  }
  return name + (form.causal ? "_causal" : "_bidirectional");
}

inline void PrintTo(const AttentionForm& form, std::ostream* out) {
  *out << name_of(form);
}

/// Two layers of two heads that attend in this form.
inline ModelOptions small_model(const AttentionForm& form, std::int32_t vocabulary) {
  return {.vocabulary = vocabulary,
          .width = 12,
          .layers = 2,
          .heads = 2,
          .hidden = 20,
          .positions = Positions::rotary,
          .longest_document = 210,
          .causal = form.causal,
          .attention = {.kind = form.kind,
                        .features = 9,
                        .projected_length = 7,
                        .sharing = form.sharing},
          .dtype = DType::f64};
}

}  // namespace longscan::test

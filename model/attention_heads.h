// Query, key and value as heads: what every kind of attention works on.
#pragma once

#include "model/options.h"

namespace longscan {

/// Each [tokens, heads, head_dim]; views of one joint projection. Gradients of them are another
/// one.
struct AttentionHeads {
  Tensor query;
  Tensor key;
  Tensor value;

  /// joint: [tokens, 3 * width].
  static AttentionHeads of(const Tensor& joint, const ModelOptions& options) {
    const std::int64_t width = options.width;
    const auto part = [&](std::int64_t index) {
      return joint.columns(index * width, (index + 1) * width).split_heads(options.heads);
    };
    return {part(0), part(1), part(2)};
  }
};

}  // namespace longscan

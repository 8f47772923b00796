// The MLP branch: out = in + dropout(down(f(up(norm(in))))).
#pragma once

#include "model/norm_layer.h"

namespace longscan {

/// What the branch's backward needs from its forward.
struct MlpKept {
  NormKept norm;
  Tensor up;      ///< [tokens, hidden], or [tokens, 2 * hidden] for SwiGLU
  Tensor active;  ///< [tokens, hidden]
};

/// Returns out, [tokens, width]. `site` numbers the dropout.
Tensor mlp_forward(Pass& pass, const MlpWeights& weights, MlpKept& kept, const Tensor& in,
                   std::int64_t site);

/// Turns `d_stream`, the gradient with respect to out, into that with respect to in, and adds to
/// d_weights.
void mlp_backward(Pass& pass, const MlpWeights& weights, const MlpWeights& d_weights,
                  const MlpKept& kept, const Tensor& d_stream, std::int64_t site);

}  // namespace longscan

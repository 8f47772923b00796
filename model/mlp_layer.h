// The MLP branch: out = dropout(down(f(up(norm(in))))).
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

/// d_in += the gradient with respect to in; adds to d_weights. `d_out` may be `d_in`, as where in
/// is added to out.
void mlp_backward(Pass& pass, const MlpWeights& weights, const MlpWeights& d_weights,
                  const MlpKept& kept, const Tensor& d_out, const Tensor& d_in, std::int64_t site);

}  // namespace longscan

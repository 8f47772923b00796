// The norm in front of each branch and of the head.
#pragma once

#include "model/parameters.h"
#include "model/pass.h"

namespace longscan {

/// What the norm's backward needs from its forward.
struct NormKept {
  Tensor in;    ///< [tokens, width]
  Tensor out;   ///< [tokens, width]
  Tensor rstd;  ///< [tokens]
  Tensor mean;  ///< [tokens]; absent for RMSNorm
};

NormKept norm_forward(Pass& pass, const NormWeights& weights, const Tensor& in);

/// d_in += the gradient with respect to `kept.in`.
void norm_backward(Pass& pass, const NormWeights& weights, const NormWeights& d_weights,
                   const NormKept& kept, const Tensor& d_out, const Tensor& d_in);

}  // namespace longscan

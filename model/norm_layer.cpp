// LayerNorm or RMSNorm, whichever the weights are for.
#include "model/norm_layer.h"

#include "kernels/normalization.h"

namespace longscan {

NormKept norm_forward(Pass& pass, const NormWeights& weights, const Tensor& in) {
  const DType sums = sum_type(pass.options.dtype);
  NormKept kept{.in = in,
                .out = pass.take(pass.options.width),
                .rstd = pass.arena.take(sums, {pass.tokens()})};
  if (weights.bias.present()) kept.mean = pass.arena.take(sums, {pass.tokens()});
  pass.device.run(Normalize{.out = kept.out,
                            .rstd = kept.rstd,
                            .mean = kept.mean,
                            .in = in,
                            .weight = weights.weight,
                            .bias = weights.bias});
  return kept;
}

void norm_backward(Pass& pass, const NormWeights& weights, const NormWeights& d_weights,
                   const NormKept& kept, const Tensor& d_out, const Tensor& d_in) {
  pass.device.run(NormalizeBackward{.d_in = d_in,
                                    .d_weight = d_weights.weight,
                                    .d_bias = d_weights.bias,
                                    .d_out = d_out,
                                    .in = kept.in,
                                    .weight = weights.weight,
                                    .rstd = kept.rstd,
                                    .mean = kept.mean});
}

}  // namespace longscan

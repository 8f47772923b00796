// Forward and backward of the MLP branch, side by side.
#include "model/mlp_layer.h"

#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace longscan {

namespace {
ActivationKind activation_of(MlpKind kind) {
  return kind == MlpKind::relu ? ActivationKind::relu : ActivationKind::gelu;
}
}  // namespace

Tensor mlp_forward(Pass& pass, const MlpWeights& weights, MlpKept& kept, const Tensor& in,
                   std::int64_t site) {
  kept.norm = norm_forward(pass, weights.norm, in);
  kept.up = pass.take(weights.up_weight.shape[0]);
  pass.device.run(Linear{
      .out = kept.up, .in = kept.norm.out, .weight = weights.up_weight, .bias = weights.up_bias});
  kept.active = pass.take(pass.options.hidden);
  if (pass.options.mlp == MlpKind::swiglu) {
    pass.device.run(SwiGlu{.out = kept.active, .in = kept.up});
  } else {
    pass.device.run(
        Activation{.out = kept.active, .in = kept.up, .kind = activation_of(pass.options.mlp)});
  }
  const Tensor out = pass.take(pass.options.width);
  pass.device.run(Linear{
      .out = out, .in = kept.active, .weight = weights.down_weight, .bias = weights.down_bias});
  if (pass.dropout.rate > 0) pass.drop(out, out, site);
  return out;
}

void mlp_backward(Pass& pass, const MlpWeights& weights, const MlpWeights& d_weights,
                  const MlpKept& kept, const Tensor& d_out, const Tensor& d_in, std::int64_t site) {
  const Arena::Mark mark = pass.arena.mark();
  Tensor d_branch = d_out;
  if (pass.dropout.rate > 0) {
    d_branch = pass.take(pass.options.width);
    pass.drop(d_branch, d_out, site);
  }
  pass.device.run(LinearBackwardWeight{.d_weight = d_weights.down_weight,
                                       .d_bias = d_weights.down_bias,
                                       .d_out = d_branch,
                                       .in = kept.active});
  const Tensor d_active = pass.take(pass.options.hidden);
  pass.device.run(MatMul{.out = d_active, .a = d_branch, .b = weights.down_weight});
  Tensor d_up = d_active;
  if (pass.options.mlp == MlpKind::swiglu) {
    d_up = pass.take(2 * pass.options.hidden);
    pass.device.run(SwiGluBackward{.d_in = d_up, .d_out = d_active, .in = kept.up});
  } else {
    pass.device.run(ActivationBackward{
        .d_in = d_up, .d_out = d_active, .in = kept.up, .kind = activation_of(pass.options.mlp)});
  }
  pass.device.run(LinearBackwardWeight{.d_weight = d_weights.up_weight,
                                       .d_bias = d_weights.up_bias,
                                       .d_out = d_up,
                                       .in = kept.norm.out});
  const Tensor d_norm = pass.take(pass.options.width);
  pass.device.run(MatMul{.out = d_norm, .a = d_up, .b = weights.up_weight});
  norm_backward(pass, weights.norm, d_weights.norm, kept.norm, d_norm, d_in);
  pass.arena.rewind_to(mark);
}

}  // namespace longscan

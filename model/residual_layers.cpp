// One stream there and back.
#include "model/residual_layers.h"

#include "kernels/elementwise.h"

namespace longscan {

namespace {
// branch += stream.
Tensor add(const Pass& pass, const Tensor& branch, const Tensor& stream) {
  pass.device.run(Add{.out = branch, .a = branch, .b = stream});
  return branch;
}
}  // namespace

Tensor ResidualLayers::forward(Pass& pass, const std::vector<LayerWeights>& weights,
                               const Tensor& embedded, const LinkOf& link_of) {
  kept_.resize(weights.size());
  Tensor stream = embedded;
  for (std::size_t layer = 0; layer < weights.size(); ++layer) {
    stream = visit(pass, weights[layer], stream, link_of(layer), layer);
  }
  return stream;
}

void ResidualLayers::states(Pass& pass, const std::vector<LayerWeights>& weights,
                            const Tensor& embedded, const LinkOf& link_of) {
  kept_.resize(weights.size());
  Tensor stream = embedded;
  const std::size_t last = weights.size() - 1;
  for (std::size_t layer = 0; layer < last; ++layer) {
    stream = visit(pass, weights[layer], stream, link_of(layer), layer);
  }
  attention_states(pass, weights[last].attention, stream, link_of(last));
}

void ResidualLayers::backward(Pass& pass, const std::vector<LayerWeights>& weights,
                              const std::vector<LayerWeights>& d_weights, const Tensor& d_stream,
                              const LinkOf& link_of) {
  for (std::size_t layer = weights.size(); layer-- > 0;) {
    const LayerWeights& w = weights[layer];
    const LayerWeights& d_w = d_weights[layer];
    const LayerKept& kept = kept_[layer];
    mlp_backward(pass, w.mlp, d_w.mlp, kept.mlp, d_stream, d_stream, Pass::mlp_site(layer));
    attention_backward(pass, w.attention, d_w.attention, kept.attention, d_stream, d_stream,
                       link_of(layer), Pass::attention_site(layer));
  }
}

Tensor ResidualLayers::step(Pass& pass, const std::vector<LayerWeights>& weights,
                            const Tensor& embedded, const LinkOf& link_of) {
  Tensor stream = embedded;
  for (std::size_t layer = 0; layer < weights.size(); ++layer) {
    const LayerWeights& w = weights[layer];
    stream = add(pass, attention_step(pass, w.attention, stream, link_of(layer)), stream);
    MlpKept unused;
    stream = add(pass, mlp_forward(pass, w.mlp, unused, stream, 0), stream);
  }
  return stream;
}

Tensor ResidualLayers::visit(Pass& pass, const LayerWeights& weights, const Tensor& stream,
                             const AttentionLink& link, std::size_t layer) {
  LayerKept& kept = kept_[layer];
  const Tensor attended = add(pass,
                              attention_forward(pass, weights.attention, kept.attention, stream,
                                                link, Pass::attention_site(layer)),
                              stream);
  return add(pass, mlp_forward(pass, weights.mlp, kept.mlp, attended, Pass::mlp_site(layer)),
             attended);
}

}  // namespace longscan

// Two streams there and back: backward undoes forward, branch by branch.
#include "model/reversible_layers.h"

#include "kernels/elementwise.h"

namespace longscan {

namespace {

void add(const Pass& pass, const Tensor& stream, const Tensor& branch) {
  pass.device.run(Add{.out = stream, .a = stream, .b = branch});
}

void subtract(const Pass& pass, const Tensor& stream, const Tensor& branch) {
  pass.device.run(Add{.out = stream, .a = stream, .b = branch, .b_factor = -1});
}

void copy(const Pass& pass, const Tensor& out, const Tensor& in) {
  pass.device.run(Copy{.out = out, .in = in});
}

}  // namespace

Tensor ReversibleLayers::forward(Pass& pass, const std::vector<LayerWeights>& weights,
                                 const Tensor& embedded, const LinkOf& link_of) {
  begin(pass, embedded);
  for (std::size_t layer = 0; layer < weights.size(); ++layer) {
    visit(pass, weights[layer], link_of(layer), layer);
  }
  return mean(pass);
}

void ReversibleLayers::states(Pass& pass, const std::vector<LayerWeights>& weights,
                              const Tensor& embedded, const LinkOf& link_of) {
  begin(pass, embedded);
  const std::size_t last = weights.size() - 1;
  for (std::size_t layer = 0; layer < last; ++layer) {
    visit(pass, weights[layer], link_of(layer), layer);
  }
  attention_states(pass, weights[last].attention, second_, link_of(last));
}

void ReversibleLayers::backward(Pass& pass, const std::vector<LayerWeights>& weights,
                                const std::vector<LayerWeights>& d_weights, const Tensor& d_stream,
                                const LinkOf& link_of) {
  // Nobody reads the mean again, so its memory takes the second gradient.
  const Tensor d_first = d_stream;
  const Tensor d_second = mean_;
  pass.device.run(
      Add{.out = d_first, .a = d_stream, .b = d_stream, .a_factor = 0.5, .b_factor = 0});
  copy(pass, d_second, d_first);
  for (std::size_t layer = weights.size(); layer-- > 0;) {
    leave(pass, weights[layer], d_weights[layer], d_first, d_second, link_of(layer), layer);
  }
  add(pass, d_stream, d_second);
}

Tensor ReversibleLayers::step(Pass& pass, const std::vector<LayerWeights>& weights,
                              const Tensor& embedded, const LinkOf& link_of) {
  begin(pass, embedded);
  for (std::size_t layer = 0; layer < weights.size(); ++layer) {
    const Arena::Mark mark = pass.arena.mark();
    add(pass, first_, attention_step(pass, weights[layer].attention, second_, link_of(layer)));
    MlpKept unused;
    add(pass, second_, mlp_forward(pass, weights[layer].mlp, unused, first_, 0));
    pass.arena.rewind_to(mark);
  }
  return mean(pass);
}

void ReversibleLayers::begin(Pass& pass, const Tensor& embedded) {
  first_ = embedded;
  second_ = pass.take(pass.options.width);
  copy(pass, second_, first_);
}

void ReversibleLayers::visit(Pass& pass, const LayerWeights& weights, const AttentionLink& link,
                             std::size_t layer) {
  const Arena::Mark mark = pass.arena.mark();
  AttentionKept attention;
  add(pass, first_,
      attention_forward(pass, weights.attention, attention, second_, link,
                        Pass::attention_site(layer)));
  pass.arena.rewind_to(mark);
  MlpKept mlp;
  add(pass, second_, mlp_forward(pass, weights.mlp, mlp, first_, Pass::mlp_site(layer)));
  pass.arena.rewind_to(mark);
}

void ReversibleLayers::leave(Pass& pass, const LayerWeights& weights, const LayerWeights& d_weights,
                             const Tensor& d_first, const Tensor& d_second,
                             const AttentionLink& link, std::size_t layer) {
  const Arena::Mark mark = pass.arena.mark();
  MlpKept mlp;
  const std::int64_t mlp_site = Pass::mlp_site(layer);
  subtract(pass, second_, mlp_forward(pass, weights.mlp, mlp, first_, mlp_site));
  mlp_backward(pass, weights.mlp, d_weights.mlp, mlp, d_second, d_first, mlp_site);
  pass.arena.rewind_to(mark);
  AttentionKept attention;
  const std::int64_t attention_site = Pass::attention_site(layer);
  subtract(pass, first_,
           attention_forward(pass, weights.attention, attention, second_, link, attention_site));
  attention_backward(pass, weights.attention, d_weights.attention, attention, d_first, d_second,
                     link, attention_site);
  pass.arena.rewind_to(mark);
}

Tensor ReversibleLayers::mean(Pass& pass) {
  mean_ = pass.take(pass.options.width);
  pass.device.run(Add{.out = mean_, .a = first_, .b = second_, .a_factor = 0.5, .b_factor = 0.5});
  return mean_;
}

}  // namespace longscan

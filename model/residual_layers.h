// The layers of an ordinary model, forward and backward: one residual stream, to which every layer
// adds attention(norm(stream)) and then mlp(norm(stream)). Activations stay from forward to
// backward.
#pragma once

#include <vector>

#include "model/attention_layer.h"
#include "model/mlp_layer.h"

namespace longscan {

class ResidualLayers {
 public:
  /// Returns the stream behind the last layer, [tokens, width].
  Tensor forward(Pass& pass, const std::vector<LayerWeights>& weights, const Tensor& embedded,
                 const LinkOf& link_of);

  /// On a first visit: everything that the next segment needs of the layers, and no more.
  void states(Pass& pass, const std::vector<LayerWeights>& weights, const Tensor& embedded,
              const LinkOf& link_of);

  /// Follows `forward` in the same pass, with links of a later visit. d_stream: the gradient with
  /// respect to what forward returned, turned into that with respect to embedded. Adds to
  /// d_weights.
  void backward(Pass& pass, const std::vector<LayerWeights>& weights,
                const std::vector<LayerWeights>& d_weights, const Tensor& d_stream,
                const LinkOf& link_of);

  /// One more token in generation. Returns the stream, [1, width].
  Tensor step(Pass& pass, const std::vector<LayerWeights>& weights, const Tensor& embedded,
              const LinkOf& link_of);

 private:
  struct LayerKept {
    AttentionKept attention;
    MlpKept mlp;
  };

  Tensor visit(Pass& pass, const LayerWeights& weights, const Tensor& stream,
               const AttentionLink& link, std::size_t layer);

  std::vector<LayerKept> kept_;
};

}  // namespace longscan

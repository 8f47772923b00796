// The layers of a reversible model, forward and backward: two residual streams, from whose ends
// backward finds what lay between (Gomez et al. 2017; Kitaev et al. 2020, section 3).
//
// Both streams begin as the embedding. A layer adds to one what it makes of the other,
//
//   first  += attention(norm(second))
//   second += mlp(norm(first)),
//
// and the model goes on with (first + second) / 2, which is the embedding where no branch adds
// anything: the scale of an ordinary model's stream, so its weights can be gone on with.
//
// Backward makes each branch once more, last one first. What it made is subtracted from the stream,
// which thereby is as it was before, and its activations give the branch's gradient. So memory
// holds the activations of one branch at a time, however many layers there are. Dropout repeats
// itself, since its masks are those of the tokens.
#pragma once

#include <vector>

#include "model/attention_layer.h"
#include "model/mlp_layer.h"

namespace longscan {

class ReversibleLayers {
 public:
  /// Returns the mean of the streams behind the last layer, [tokens, width]. `embedded` becomes a
  /// stream.
  Tensor forward(Pass& pass, const std::vector<LayerWeights>& weights, const Tensor& embedded,
                 const LinkOf& link_of);

  /// On a first visit: everything that the next segment needs of the layers, and no more.
  void states(Pass& pass, const std::vector<LayerWeights>& weights, const Tensor& embedded,
              const LinkOf& link_of);

  /// Follows `forward` in the same pass, with links of a later visit. d_stream: the gradient with
  /// respect to what forward returned, turned into that with respect to embedded; what forward
  /// returned is overwritten. Adds to d_weights.
  void backward(Pass& pass, const std::vector<LayerWeights>& weights,
                const std::vector<LayerWeights>& d_weights, const Tensor& d_stream,
                const LinkOf& link_of);

  /// One more token in generation. Returns the mean of the streams, [1, width].
  Tensor step(Pass& pass, const std::vector<LayerWeights>& weights, const Tensor& embedded,
              const LinkOf& link_of);

 private:
  void begin(Pass& pass, const Tensor& embedded);
  void visit(Pass& pass, const LayerWeights& weights, const AttentionLink& link, std::size_t layer);
  /// Takes the streams back to where they were before the layer, with the gradients.
  void leave(Pass& pass, const LayerWeights& weights, const LayerWeights& d_weights,
             const Tensor& d_first, const Tensor& d_second, const AttentionLink& link,
             std::size_t layer);
  Tensor mean(Pass& pass);

  // [tokens, width] of the current pass.
  Tensor first_;
  Tensor second_;
  Tensor mean_;
};

}  // namespace longscan

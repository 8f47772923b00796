// The attention branch: out = dropout(output(attention(query, key, value of norm(in)))).
//
// The layer is the whole distributed algorithm. Forward: project key and value, sum the shard up,
// start the exchange, project the query meanwhile, wait, attend with what came before. Backward:
// sum the gradients up, start the exchange, differentiate the query meanwhile (it looks back only),
// wait, differentiate key and value.
#pragma once

#include "dist/state_exchange.h"
#include "model/norm_layer.h"

namespace longscan {

/// What the branch's backward needs from its forward.
struct AttentionKept {
  NormKept norm;
  Tensor query_key_value;  ///< [tokens, 3 * width], after rotary positions
  Tensor attended;         ///< [tokens, width]
  Tensor normalizer;       ///< [tokens, heads]
};

/// How a layer's states cross shards and segments. States are [heads, features, value_dim + 1].
struct StateLink {
  StateExchange& exchange;
  const SegmentBorders& borders;
  Tensor before;   ///< what precedes the shard: written on the first visit of a segment, read on
                   ///< later ones
  Tensor carry;    ///< forward: the state at the segment's beginning, turned into that at its end
  Tensor d_carry;  ///< backward: the same from the other end
  bool first_visit = true;  ///< false: `before` is known, nothing is communicated forward
};

/// On a first visit: everything that the next segment needs of this layer, and no more. Exchanges
/// states.
void attention_states(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const StateLink& link);

/// Returns out, [tokens, width]. `site` numbers the dropout.
Tensor attention_forward(Pass& pass, const AttentionWeights& weights, AttentionKept& kept,
                         const Tensor& in, const StateLink& link, std::int64_t site);

/// d_in += the gradient with respect to in; adds to d_weights. `d_out` may be `d_in`, as where in
/// is added to out.
void attention_backward(Pass& pass, const AttentionWeights& weights,
                        const AttentionWeights& d_weights, const AttentionKept& kept,
                        const Tensor& d_out, const Tensor& d_in, const StateLink& link,
                        std::int64_t site);

/// One more token in generation: `state` takes it in. Returns out, [1, width].
Tensor attention_step(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const Tensor& state);

}  // namespace longscan

// Linear attention over the shards of a line: each sums up its own tokens, and only the sums are
// exchanged.
//
// Forward: sum keys and values up, start the exchange, do what needs nobody else, wait, attend with
// what the others' tokens add. Backward: sum the gradients up, start the exchange, do what needs
// nobody else, wait, differentiate. Where attention is causal, states flow one way; else both ways,
// to the document's tokens before the shard and behind it.
#pragma once

#include <functional>

#include "dist/state_exchange.h"
#include "kernels/linear_attention.h"
#include "model/attention_heads.h"
#include "model/pass.h"

namespace longscan {

/// How a layer's states cross shards and segments. States are [heads, rows, columns] as
/// ModelOptions::state_shape has them.
struct StateLink {
  StateExchange& exchange;
  const SegmentBorders& borders;
  /// What precedes the shard, and what is behind it where attention is not causal: written on the
  /// first visit of a segment, read on later ones.
  Tensor before;
  Tensor behind;
  Tensor carry;    ///< forward: the state at the segment's beginning, turned into that at its end
  Tensor d_carry;  ///< backward: the same from the other end
  bool first_visit = true;  ///< false: `before` and `behind` are known, no state is sent forward
};

/// Fills link.before (and link.behind) with what keys and values of the other shards add up to;
/// `meanwhile` is called while that is under way. Sends nothing unless it is the first visit.
void exchange_linear_states(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                            const StateLink& link, const std::function<void()>& meanwhile);

/// What backward needs of forward.
struct LinearAttentionKept {
  Tensor out;          ///< [tokens, heads, head_dim]
  Tensor normalizer;   ///< [tokens, heads]
  Tensor checkpoints;  ///< of LinearAttention; may be absent
};

/// Memory for checkpoints, where a backward follows that begins from any.
Tensor take_checkpoints(Pass& pass, const FeatureMap& map);

/// Writes what is kept.
void linear_attention_forward(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                              const StateLink& link, const LinearAttentionKept& kept);

/// Writes d_heads. `meanwhile` is called while sums of gradients are under way.
void linear_attention_backward(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                               const LinearAttentionKept& kept, const Tensor& d_out,
                               const AttentionHeads& d_heads, const StateLink& link,
                               const std::function<void()>& meanwhile);

}  // namespace longscan

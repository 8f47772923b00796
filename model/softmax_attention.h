// Exact softmax attention over the shards of a line: keys and values pass from rank to rank, as far
// as their documents reach.
//
// Forward: start to send keys and values on, attend to the own ones meanwhile, then to those of
// each shard that comes by. Backward: the same once more for the gradient of the queries, while
// queries and what their outputs hand back go the other way, for the gradients of the keys and
// values of each shard that they come by. So every gradient is summed up where it belongs, and none
// is sent. Where attention is not causal, both go both ways.
#pragma once

#include <functional>

#include "dist/block_exchange.h"
#include "kernels/softmax_attention.h"
#include "model/attention_heads.h"
#include "model/key_value_cache.h"
#include "model/pass.h"

namespace longscan {

/// How shards reach each other.
struct BlockLink {
  BlockExchange& exchange;
  const SegmentBorders& borders;
};

/// out: [tokens, heads, head_dim]; log_sum: [tokens, heads], kept for backward. `meanwhile` makes
/// the query, while keys and values are under way. Collective, on every visit: nothing of other
/// ranks is kept.
void softmax_attention_forward(Pass& pass, const AttentionHeads& heads, const BlockLink& link,
                               const Tensor& out, const Tensor& log_sum,
                               const std::function<void()>& meanwhile);

/// What the outputs hand back: d_out and out, [tokens, heads, head_dim], and log_sum.
struct SoftmaxOutputs {
  Tensor d_out;
  Tensor out;
  Tensor log_sum;
};

/// Adds to d_heads. `meanwhile` is called while shards are under way.
void softmax_attention_backward(Pass& pass, const AttentionHeads& heads,
                                const SoftmaxOutputs& outputs, const AttentionHeads& d_heads,
                                const BlockLink& link, const std::function<void()>& meanwhile);

/// One more token in generation, which the cache holds already.
void softmax_attention_step(Pass& pass, const Tensor& query, const KeyValueCache& cache,
                            const Tensor& out, const Tensor& log_sum);

}  // namespace longscan

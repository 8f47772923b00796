// Linformer over the shards of a line: each projects its own tokens, and only the projected keys
// and values of documents that cross its ends are exchanged.
//
// Forward: project keys and values, start the exchange, do what needs nobody else, wait, add what
// the first and the last document have elsewhere, attend. Backward: sum the gradients up over the
// queries, start the exchange, differentiate the query meanwhile, wait, differentiate keys, values
// and projections. Both times sums go both ways, to the shards behind and to those before.
#pragma once

#include <functional>

#include "kernels/linformer.h"
#include "model/linear_attention.h"
#include "model/parameters.h"

namespace longscan {

/// out: [tokens, heads, head_dim]; log_sum: [tokens, heads], kept for backward, as is what it
/// returns: the projected keys and values of whole documents, [documents * heads, k, 2 * head_dim].
/// `meanwhile` makes the query; it is called while sums are under way. Sends nothing unless it is
/// the first visit. Throws data where a document is longer than the projections.
Tensor linformer_attention_forward(Pass& pass, const AttentionWeights& weights,
                                   const AttentionHeads& heads, const StateLink& link,
                                   const Tensor& out, const Tensor& log_sum,
                                   const std::function<void()>& meanwhile);

/// Writes d_heads, adds to the projections in d_weights. projected: what forward returned.
/// `meanwhile` is called while sums of gradients are under way.
void linformer_attention_backward(Pass& pass, const AttentionWeights& weights,
                                  const AttentionWeights& d_weights, const AttentionHeads& heads,
                                  const Tensor& projected, const LinformerGradient& gradient,
                                  const AttentionHeads& d_heads, const StateLink& link,
                                  const std::function<void()>& meanwhile);

}  // namespace longscan

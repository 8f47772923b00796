// The attention branch: out = dropout(output(attention(query, key, value of norm(in)))).
#pragma once

#include <functional>

#include "model/key_value_cache.h"
#include "model/linear_attention.h"
#include "model/norm_layer.h"
#include "model/softmax_attention.h"

namespace longscan {

/// What the branch's backward needs from its forward.
struct AttentionKept {
  NormKept norm;
  Tensor query_key_value;  ///< [tokens, 3 * width], after rotary positions
  Tensor attended;         ///< [tokens, width]
  Tensor normalizer;       ///< [tokens, heads], or its logarithm; absent where the kind has none
  Tensor checkpoints;      ///< of linear kinds, where a backward follows that begins from any
  Tensor projected;        ///< of linformer, as its forward returned it
};

/// What a layer attends with, and how it reaches the other ranks.
struct AttentionLink {
  std::int64_t layer = 0;
  const AttentionOptions& attention;
  Tensor projection;      ///< of random features, [features, head_dim]; absent unless favor_*
  StateLink states;       ///< of all kinds but exact softmax
  BlockExchange& blocks;  ///< of exact softmax
  KeyValueCache& cache;   ///< of exact softmax, in generation: takes in the tokens of every pass
};

/// On a first visit: everything that the next segment needs of this layer, and no more. Exchanges
/// states.
void attention_states(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const AttentionLink& link);

/// Returns out, [tokens, width]. `site` numbers the dropout.
Tensor attention_forward(Pass& pass, const AttentionWeights& weights, AttentionKept& kept,
                         const Tensor& in, const AttentionLink& link, std::int64_t site);

/// d_in += the gradient with respect to in; adds to d_weights. `d_out` may be `d_in`, as where in
/// is added to out.
void attention_backward(Pass& pass, const AttentionWeights& weights,
                        const AttentionWeights& d_weights, const AttentionKept& kept,
                        const Tensor& d_out, const Tensor& d_in, const AttentionLink& link,
                        std::int64_t site);

/// What the heads attend to, [tokens, heads, head_dim]; writes kept's attended and what else
/// backward needs. `meanwhile` is called before the query is read; other ranks are waited for
/// behind it.
Tensor attend(Pass& pass, const AttentionWeights& weights, const AttentionHeads& heads,
              AttentionKept& kept, const AttentionLink& link,
              const std::function<void()>& meanwhile);

/// One more token in generation: `link.states.carry` or `link.cache` takes it in. Returns out, [1,
/// width].
Tensor attention_step(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const AttentionLink& link);

/// How every layer attends on one visit.
using LinkOf = std::function<AttentionLink(std::size_t layer)>;

}  // namespace longscan

// The matrix that attention multiplies the values by, which no kind of attention makes: what comes
// of values that are one-hot positions are its columns (Choromanski et al. 2020, appendix on the
// visualisation of attention).
#pragma once

#include "model/attention_layer.h"

namespace longscan {

/// Heads [begin, end).
struct HeadRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// A of each of these heads with out = A value: [heads, tokens, tokens] of the model's type, rows
/// are the tokens that attend, columns those attended to. A token sees only its own document, and
/// where attention is causal nothing behind itself: all else is 0. Rows are not negative and sum to
/// 1 but for rounding; those of Linformer, softmax(Q (E K)^T / sqrt(dim)) F, may be anything, since
/// F is learned. Taken from the pass' arena. `link` is of a group of one rank and a line of one
/// segment.
Tensor attention_matrix(Pass& pass, const AttentionWeights& weights, const AttentionHeads& heads,
                        const AttentionLink& link, HeadRange shown);

}  // namespace longscan

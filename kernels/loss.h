// Next-token cross-entropy.
#pragma once

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// For each row with target >= 0: totals[0] += -log softmax(logits)[target], totals[1] += 1 if the
/// largest logit (the first of equals) is the target's, totals[2] += 1. Rows with target < 0 count
/// nothing and have no gradient. With `gradient`, `logits` is replaced by the gradient of the SUM
/// of losses: softmax(logits) - onehot(target). A target beyond the vocabulary throws data. Row
/// sums are added up in double, in the order of rows.
struct CrossEntropy {
  Tensor totals;   ///< [3] f64, added to
  Tensor logits;   ///< [tokens, vocabulary] dense, f32, f64 or bf16
  Tensor targets;  ///< [tokens] i32
  bool gradient = true;
  void check() const;
};
void execute(Cpu&, const CrossEntropy&);
void execute(Cuda&, const CrossEntropy&);

/// totals = NaN where this GPU has met bad data (an index outside of a table, a target beyond the
/// vocabulary) of which the next call that waits will tell: so that other ranks learn of it. The
/// CPU tells at once, and leaves them.
struct MarkBadData {
  Tensor totals;  ///< [sums] f64
  void check() const;
};
void execute(Cpu&, const MarkBadData&);
void execute(Cuda&, const MarkBadData&);

}  // namespace longscan

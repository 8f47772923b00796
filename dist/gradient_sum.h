// What data parallelism comes down to: gradients and the loss are sums over all ranks.
#pragma once

#include <cstdint>
#include <span>

#include "dist/communicator.h"

namespace longscan {

/// Collective over all ranks that hold a part of a step's tokens. Replaces `gradient`, [count] f32
/// or f64 and dense, and `totals`, [sums] f64 (sums over this rank's tokens, such as the loss, the
/// correct predictions, the tokens) by their sums over the ranks; the same bits on every rank. Both
/// lie in the memory of the ranks' devices. A rank without tokens brings zeros. Each rank hands
/// over count * size_of(dtype) + sums * 8 bytes.
void sum_gradient(Communicator& world, const Tensor& gradient, const Tensor& totals);

/// Collective. Totals alone, in host memory, for an evaluation.
void sum_totals(Communicator& world, std::span<double> totals);

}  // namespace longscan

// What a run will cost, from its sizes alone: arithmetic, memory, messages; and what this machine
// can do at best.
#pragma once

#include <cstdint>

#include "io/configuration.h"
#include "kernels/device.h"
#include "model/options.h"

namespace longscan {

/// Floating-point operations of the model for one token, forward and backward: 6 for each weight of
/// a matrix product, and for attention what its formula needs: linear attention its recurrence and
/// its random projections, linformer its projections and scores, exact softmax the scores of all
/// tokens that are seen in a document of `document` tokens. Recomputation does not count.
double flops_per_token(const ModelOptions& model, std::int64_t document);

/// Bytes of one rank.
struct MemoryEstimate {
  std::int64_t parameters = 0;
  std::int64_t gradients = 0;
  std::int64_t moments = 0;
  std::int64_t activations = 0;  ///< of the largest segment, logits included
  std::int64_t states = 0;       ///< of all segments, and those gathered from the group
  std::int64_t scratch = 0;      ///< what a GPU's operations need beside their operands
  std::int64_t tokens = 0;       ///< the rank's part of a line, in the host's memory

  /// All but the tokens.
  std::int64_t on_device() const {
    return parameters + gradients + moments + activations + states + scratch;
  }
};

/// How a step's work is laid out; the largest share of any rank.
struct Layout {
  std::int64_t line_tokens = 0;     ///< of one sequence group
  std::int64_t window = 0;          ///< tokens of a document
  std::int64_t segments = 0;        ///< of that line
  std::int64_t tokens_at_once = 0;  ///< of one rank in one segment
  std::int64_t sequence_ranks = 1;
  std::int64_t ranks = 1;
  std::int64_t accumulation = 1;
};

Layout layout_of(const config::Config& configuration, std::int64_t sequence_ranks,
                 std::int64_t ranks);

/// Beside what the device has taken for itself, workspace of cuBLASLt included:
/// Device::memory_used.
MemoryEstimate memory_of(const ModelOptions& model, const Layout& layout, const Device& device);

/// Bytes that one rank hands over in a step, at most: a state a layer, segment and direction,
/// forward and backward; where attention is exact softmax, keys and values, and queries with their
/// gradients, as far as documents reach; and the gradient. Nothing where there is nobody to hand it
/// to.
struct ExchangeEstimate {
  std::int64_t states = 0;
  std::int64_t keys_values = 0;
  std::int64_t gradients = 0;
};

ExchangeEstimate exchange_of(const ModelOptions& model, const Layout& layout);

/// FLOP/s of products of square matrices of this type on this device, measured for about 0.2 s.
double measure_peak(Device& device, DType dtype);

}  // namespace longscan

// What exact softmax attention has instead of a state: the keys and values of all tokens so far.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/softmax_attention.h"
#include "model/attention_heads.h"
#include "model/pass.h"

namespace longscan {

/// Of one layer, in generation. Grows with the tokens, by doubling.
class KeyValueCache {
 public:
  /// Forgets all tokens, but keeps the memory.
  void clear() { count_ = 0; }
  /// Adds the tokens of a pass, which follow those before and belong to their document. None is
  /// masked.
  void append(const Pass& pass, const AttentionHeads& heads);
  /// All tokens so far; the first is token 0 of the line.
  SoftmaxKeys keys() const;

 private:
  void reserve(Device& device, std::int64_t tokens, const AttentionHeads& like);

  Buffer memory_;
  Tensor key_;       // [capacity, heads, head_dim]
  Tensor value_;     // [capacity, heads, head_dim]
  Tensor document_;  // [capacity] i64
  std::int64_t count_ = 0;
};

}  // namespace longscan

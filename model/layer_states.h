// The states of all layers, laid out once in one buffer.
#pragma once

#include <span>
#include <vector>

#include "kernels/device.h"
#include "model/options.h"

namespace longscan {

/// Each is [heads, rows, columns] as ModelOptions::state_shape has it.
class LayerStates {
 public:
  /// Both must outlive the object.
  LayerStates(const ModelOptions& options, Device& device) : options_(options), device_(device) {}

  /// Makes room for a line of so many segments, and empties the carries.
  void prepare(std::int64_t segments);

  /// What comes before this rank's shard of a segment.
  const Tensor& before(std::int64_t segment, std::int64_t layer) const {
    return before_.at(static_cast<std::size_t>(segment * options_.layers + layer));
  }
  /// What is behind this rank's shard, in a line of one segment; absent where attention is causal.
  Tensor behind(std::int64_t layer) const {
    return options_.causal ? Tensor{} : behind_.at(static_cast<std::size_t>(layer));
  }
  /// What is carried from one segment to the next, and its gradient from one to that before.
  const Tensor& carry(std::int64_t layer) const {
    return carry_.at(static_cast<std::size_t>(layer));
  }
  const Tensor& d_carry(std::int64_t layer) const {
    return d_carry_.at(static_cast<std::size_t>(layer));
  }
  std::span<const Tensor> carries() const { return carry_; }

 private:
  void lay_out(std::int64_t segments);

  const ModelOptions& options_;
  Device& device_;
  Buffer memory_;
  std::int64_t segments_ = 0;
  std::vector<Tensor> before_;  // of every (segment, layer)
  std::vector<Tensor> behind_;
  std::vector<Tensor> carry_;
  std::vector<Tensor> d_carry_;
};

}  // namespace longscan

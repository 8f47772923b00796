// The arena's blocks.
#include "kernels/arena.h"

#include <algorithm>

namespace longscan {

namespace {
// Accesses of 16 bytes on GPUs and of 64 on CPUs are to find their boundaries.
constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kSmallestBlock = std::int64_t{1} << 20;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
}  // namespace

Tensor Arena::take(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor = Tensor::dense(nullptr, dtype, shape);
  const std::int64_t need = aligned(tensor.bytes());
  if (block_ < blocks_.size() && used_ + need > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
    // What lies behind is free. Held although it does not fit, it would be memory for nothing.
    if (block_ < blocks_.size() && need > blocks_[block_].bytes()) blocks_.resize(block_);
  }
  if (block_ == blocks_.size()) blocks_.push_back(device_.allocate(std::max(need, kSmallestBlock)));
  tensor.data = blocks_[block_].data() + used_;
  used_ += need;
  in_use_ += need;
  most_ = std::max(most_, in_use_);
  return tensor;
}

void Arena::rewind_to(Mark mark) {
  block_ = mark.block;
  used_ = mark.used;
  in_use_ = mark.in_use;
}

void Arena::rewind() {
  rewind_to({});
  if (blocks_.size() < 2) return;
  blocks_.clear();
  blocks_.push_back(device_.allocate(std::max(most_, kSmallestBlock)));
}

std::int64_t Arena::bytes() const {
  std::int64_t total = 0;
  for (const Buffer& block : blocks_) total += block.bytes();
  return total;
}

}  // namespace longscan

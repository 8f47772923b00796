// Aligned allocation and the arena's blocks.
#include "kernels/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace longscan {

namespace {
constexpr std::int64_t kAlignment = 64;
// Activations and weights are walked through in rows far apart, each on a page of its own: with
// small pages a large part of the time goes into finding pages.
constexpr std::int64_t kLargePage = std::int64_t{2} << 20;
constexpr std::int64_t kSmallestBlock = std::int64_t{1} << 20;

std::int64_t aligned(std::int64_t bytes, std::int64_t alignment = kAlignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}
}  // namespace

Buffer::Buffer(std::int64_t bytes) : bytes_(bytes) {
  require(bytes >= 0, "Buffer.bytes", "is not negative");
  if (bytes == 0) return;
  const std::int64_t alignment = bytes >= kLargePage ? kLargePage : kAlignment;
  const auto rounded = static_cast<std::size_t>(aligned(bytes, alignment));
  auto* memory =
      static_cast<std::byte*>(std::aligned_alloc(static_cast<std::size_t>(alignment), rounded));
  if (memory == nullptr) throw std::bad_alloc();
  data_.reset(memory);
  // Only advice: where there are no large pages the buffer works all the same.
  if (alignment == kLargePage) madvise(memory, rounded, MADV_HUGEPAGE);
  std::memset(memory, 0, rounded);
}

void Buffer::Free::operator()(std::byte* data) const {
  std::free(data);
}

Tensor Arena::take(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor = Tensor::dense(nullptr, dtype, shape);
  const std::int64_t need = aligned(tensor.bytes());
  if (block_ < blocks_.size() && used_ + need > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
    // What lies behind is free. Held although it does not fit, it would be memory for nothing.
    if (block_ < blocks_.size() && need > blocks_[block_].bytes()) blocks_.resize(block_);
  }
  if (block_ == blocks_.size()) blocks_.emplace_back(std::max(need, kSmallestBlock));
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
  blocks_.emplace_back(std::max(most_, kSmallestBlock));
}

std::int64_t Arena::bytes() const {
  std::int64_t total = 0;
  for (const Buffer& block : blocks_) total += block.bytes();
  return total;
}

}  // namespace longscan

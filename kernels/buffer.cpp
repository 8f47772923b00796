// Aligned allocation and the arena's blocks.
#include "kernels/buffer.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace longscan {

namespace {
constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kSmallestBlock = std::int64_t{1} << 20;

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
}  // namespace

Buffer::Buffer(std::int64_t bytes) : bytes_(bytes) {
  require(bytes >= 0, "Buffer.bytes", "is not negative");
  if (bytes == 0) return;
  const auto rounded = static_cast<std::size_t>(aligned(bytes));
  data_.reset(static_cast<std::byte*>(::operator new (rounded, std::align_val_t{kAlignment})));
  std::memset(data_.get(), 0, rounded);
}

void Buffer::Free::operator()(std::byte* data) const {
  ::operator delete (data, std::align_val_t{kAlignment});
}

Tensor Arena::take(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor = Tensor::dense(nullptr, dtype, shape);
  const std::int64_t need = aligned(tensor.bytes());
  while (block_ < blocks_.size() && used_ + need > blocks_[block_].bytes()) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) blocks_.emplace_back(std::max(need, kSmallestBlock));
  tensor.data = blocks_[block_].data() + used_;
  used_ += need;
  return tensor;
}

void Arena::rewind_to(Mark mark) {
  block_ = mark.block;
  used_ = mark.used;
}

void Arena::rewind() {
  block_ = 0;
  used_ = 0;
  if (blocks_.size() < 2) return;
  const std::int64_t total = bytes();
  blocks_.clear();
  blocks_.emplace_back(total);
}

std::int64_t Arena::bytes() const {
  std::int64_t total = 0;
  for (const Buffer& block : blocks_) total += block.bytes();
  return total;
}

}  // namespace longscan

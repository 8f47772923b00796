// Aligned allocation on the host.
#include "kernels/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels/tensor.h"

namespace longscan {

namespace {
constexpr std::int64_t kAlignment = 64;
// Activations and weights are walked through in rows far apart, each on a page of its own: with
// small pages a large part of the time goes into finding pages.
constexpr std::int64_t kLargePage = std::int64_t{2} << 20;

std::int64_t aligned(std::int64_t bytes, std::int64_t alignment) {
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
  data_ = {memory, Free{[](std::byte* data) { std::free(data); }}};
  // Only advice: where there are no large pages the buffer works all the same.
  if (alignment == kLargePage) madvise(memory, rounded, MADV_HUGEPAGE);
  std::memset(memory, 0, rounded);
}

}  // namespace longscan

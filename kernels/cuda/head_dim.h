// From the size of heads at run time to the padded one of a template, and what GPUs have no room
// for.
#pragma once

#include <cstdint>
#include <utility>

namespace longscan {

/// The largest heads whose tiles fit into shared memory.
constexpr std::int64_t kMostHeadDim = 256;

/// Throws usage: heads are larger than kMostHeadDim.
[[noreturn]] void refuse_head_dim(std::int64_t dim);

/// Throws usage: a block's tiles of such heads need more shared memory than the limit.
[[noreturn]] void refuse_tiles(std::int64_t dim, std::int64_t bytes, std::int64_t limit);

/// Calls `body.operator()<kDim>()` with a kDim that has room for `dim`.
template <class Body>
void for_head_dim(std::int64_t dim, Body&& body) {
  if (dim > kMostHeadDim) refuse_head_dim(dim);
  if (dim <= 32) return std::forward<Body>(body).template operator()<32>();
  if (dim <= 64) return std::forward<Body>(body).template operator()<64>();
  if (dim <= 128) return std::forward<Body>(body).template operator()<128>();
  return std::forward<Body>(body).template operator()<256>();
}

}  // namespace longscan

// The messages of head_dim.h.
#include "kernels/cuda/head_dim.h"

#include "kernels/error.h"

namespace longscan {

void refuse_head_dim(std::int64_t dim) {
  throw Error(ErrorKind::usage,
              {.what = fmt::format("heads of {} dimensions", dim),
               .why = fmt::format("a softmax on the GPU takes up to {}", kMostHeadDim),
               .hint = "take more heads, linear attention or the CPU"});
}

void refuse_tiles(std::int64_t dim, std::int64_t bytes, std::int64_t limit) {
  throw Error(
      ErrorKind::usage,
      {.what = fmt::format("a softmax over heads of {} dimensions does not fit on this GPU", dim),
       .why =
           fmt::format("it takes {} bytes of shared memory, of which there are {}", bytes, limit),
       .hint = "take more heads, bf16, linear attention or the CPU"});
}

}  // namespace longscan

// The message of head_dim.h.
#include "kernels/cuda/head_dim.h"

#include "kernels/error.h"

namespace longscan {

void refuse_head_dim(std::int64_t dim) {
  throw Error(ErrorKind::usage,
              {.what = fmt::format("heads of {} dimensions", dim),
               .why = fmt::format("a softmax on the GPU takes up to {}", kMostHeadDim),
               .hint = "take more heads, linear attention or the CPU"});
}

}  // namespace longscan

// What linear attention on the GPU cannot hold.
#include "kernels/cuda/linear_attention_limits.h"

#include "kernels/error.h"

namespace longscan::gpu_attention {

void refuse_head_size(std::int64_t numbers) {
  throw Error(
      ErrorKind::usage,
      {.what = fmt::format("linear attention on the GPU has no heads of {} numbers", numbers),
       .why = "they have at most 128",
       .hint = "take more heads or a smaller width"});
}

void refuse_state(std::int64_t features, std::int64_t head_size, std::int64_t bytes,
                  std::int64_t limit) {
  throw Error(ErrorKind::usage,
              {.what = fmt::format("linear attention with {} features and heads of {} numbers does "
                                   "not fit on this GPU",
                                   features, head_size),
               .why = fmt::format("it takes {} bytes of shared memory, of which there are {}",
                                  bytes, limit),
               .hint = "take fewer features, smaller heads or bf16"});
}

}  // namespace longscan::gpu_attention

// Gradients of queries in bf16: a file of its own, for its compilation takes a minute.
#include "kernels/cuda/linear_attention_query.h"

namespace longscan::gpu_attention {

template void run(Cuda&, const QueryPass<__nv_bfloat16>&);

}  // namespace longscan::gpu_attention

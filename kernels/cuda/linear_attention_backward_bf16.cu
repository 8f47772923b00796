// Gradients of causal attention in bf16: a file of its own, for its compilation takes minutes.
#include "kernels/cuda/linear_attention_backward.h"

namespace longscan::gpu_attention {

template void run(Cuda&, const BackwardPass<__nv_bfloat16>&);

}  // namespace longscan::gpu_attention

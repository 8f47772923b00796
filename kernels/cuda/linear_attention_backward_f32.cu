// Gradients of causal attention in f32: a file of its own, for its compilation takes minutes.
#include "kernels/cuda/linear_attention_backward.h"

namespace longscan::gpu_attention {

template void run(Cuda&, const BackwardPass<float>&);

}  // namespace longscan::gpu_attention

// Gradients of keys and values in f32: a file of its own, for its compilation takes a minute.
#include "kernels/cuda/linear_attention_key_value.h"

namespace longscan::gpu_attention {

template void run(Cuda&, const KeyValuePass<float>&);

}  // namespace longscan::gpu_attention

// Not there yet.
#include "kernels/softmax_attention.h"

#include <stdexcept>

#include "kernels/cuda/gpu.h"

namespace longscan {

void execute(Cuda&, const SoftmaxAttention&) {
  throw std::logic_error("SoftmaxAttention is not there yet");
}
void execute(Cuda&, const HeadDot&) {
  throw std::logic_error("HeadDot is not there yet");
}
void execute(Cuda&, const SoftmaxAttentionBackwardQuery&) {
  throw std::logic_error("SoftmaxAttentionBackwardQuery is not there yet");
}
void execute(Cuda&, const SoftmaxAttentionBackwardKeyValue&) {
  throw std::logic_error("SoftmaxAttentionBackwardKeyValue is not there yet");
}

}  // namespace longscan

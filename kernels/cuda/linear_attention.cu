// Not there yet.
#include "kernels/linear_attention.h"

#include <stdexcept>

#include "kernels/cuda/gpu.h"

namespace longscan {

void execute(Cuda&, const LinearAttentionSum&) {
  throw std::logic_error("LinearAttentionSum is not there yet");
}
void execute(Cuda&, const LinearAttention&) {
  throw std::logic_error("LinearAttention is not there yet");
}
void execute(Cuda&, const LinearAttentionStep&) {
  throw std::logic_error("LinearAttentionStep is not there yet");
}
void execute(Cuda&, const LinearAttentionGradientSum&) {
  throw std::logic_error("LinearAttentionGradientSum is not there yet");
}
void execute(Cuda&, const LinearAttentionBackwardQuery&) {
  throw std::logic_error("LinearAttentionBackwardQuery is not there yet");
}
void execute(Cuda&, const LinearAttentionBackwardKeyValue&) {
  throw std::logic_error("LinearAttentionBackwardKeyValue is not there yet");
}

}  // namespace longscan

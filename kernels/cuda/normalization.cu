// Not there yet.
#include "kernels/normalization.h"

#include <stdexcept>

#include "kernels/cuda/gpu.h"

namespace longscan {

void execute(Cuda&, const Normalize&) {
  throw std::logic_error("Normalize is not there yet");
}
void execute(Cuda&, const NormalizeBackward&) {
  throw std::logic_error("NormalizeBackward is not there yet");
}

}  // namespace longscan

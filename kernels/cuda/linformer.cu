// Not there yet.
#include "kernels/linformer.h"

#include <stdexcept>

#include "kernels/cuda/gpu.h"

namespace longscan {

void execute(Cuda&, const LinformerProject&) {
  throw std::logic_error("LinformerProject is not there yet");
}
void execute(Cuda&, const LinformerAttend&) {
  throw std::logic_error("LinformerAttend is not there yet");
}
void execute(Cuda&, const LinformerBackwardProjected&) {
  throw std::logic_error("LinformerBackwardProjected is not there yet");
}
void execute(Cuda&, const LinformerBackwardQuery&) {
  throw std::logic_error("LinformerBackwardQuery is not there yet");
}
void execute(Cuda&, const LinformerBackwardKeys&) {
  throw std::logic_error("LinformerBackwardKeys is not there yet");
}

}  // namespace longscan

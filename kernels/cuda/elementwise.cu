// Not there yet.
#include "kernels/elementwise.h"

#include <stdexcept>

#include "kernels/cuda/gpu.h"

namespace longscan {

void execute(Cuda&, const Fill&) {
  throw std::logic_error("Fill is not there yet");
}
void execute(Cuda&, const Copy&) {
  throw std::logic_error("Copy is not there yet");
}
void execute(Cuda&, const Round&) {
  throw std::logic_error("Round is not there yet");
}
void execute(Cuda&, const Add&) {
  throw std::logic_error("Add is not there yet");
}
void execute(Cuda&, const Activation&) {
  throw std::logic_error("Activation is not there yet");
}
void execute(Cuda&, const ActivationBackward&) {
  throw std::logic_error("ActivationBackward is not there yet");
}
void execute(Cuda&, const SwiGlu&) {
  throw std::logic_error("SwiGlu is not there yet");
}
void execute(Cuda&, const SwiGluBackward&) {
  throw std::logic_error("SwiGluBackward is not there yet");
}
void execute(Cuda&, const Dropout&) {
  throw std::logic_error("Dropout is not there yet");
}

}  // namespace longscan

// The backends of this build: the one place that asks whether it has CUDA.
#pragma once

#include <string>
#include <variant>

#include "kernels/cpu/cpu.h"

#ifdef LONGSCAN_CUDA
#include "kernels/cuda/cuda.h"
#endif

namespace longscan {

#ifdef LONGSCAN_CUDA
using Backend = std::variant<Cpu, Cuda>;
#else
using Backend = std::variant<Cpu>;
#endif

struct CudaOptions {
  /// Products of f32 round their operands to 11 bits of mantissa (TF32): faster, less exact.
  bool tf32 = false;
};

/// What there is to compute on beside the CPU.
struct CudaDevices {
  int count = 0;
  std::string why_none;  ///< what is missing, where count is 0
};

CudaDevices find_cuda_devices();

/// Throws usage where there is no such GPU, saying what is missing.
Backend make_cuda(int index, const CudaOptions& options);

}  // namespace longscan

// How a kernel leaves word of bad data.
#pragma once

#include "kernels/cuda/fault_words.h"
#include "kernels/cuda/gpu.h"

namespace longscan {

/// `fault` gets the largest of all numbers reported.
__device__ inline void report(unsigned long long* fault, std::int64_t number) {
  atomicMax(fault, static_cast<unsigned long long>(number + kFaultBias));
}

}  // namespace longscan

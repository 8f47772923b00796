// CUDA's own headers for the host, and its keywords as the host's compiler can take them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

// The host's version of CUDA's headers makes most of these unknown attributes.
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#undef __forceinline__
#undef __noinline__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ _Pragma("GCC error \"declare shared memory with SHARED\"")
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))

#define threadIdx (::longscan::cuda_on_cpu::current->index)
#define blockIdx (::longscan::cuda_on_cpu::current->block->index)
#define blockDim (::longscan::cuda_on_cpu::current->block->extent)
#define gridDim (::longscan::cuda_on_cpu::current->block->grid)
#define warpSize (::longscan::cuda_on_cpu::kWarpSize)

// The one header that brings CUDA to a kernel's file: its own where its compiler is at work, and
// under the host's compiler what tests put in its place.
//
// What kernels keep to, so that both can run them: they are started with `launch` and not with
// <<<>>>; shared memory is declared with SHARED or taken from dynamic_shared or a SharedArena;
// asynchronous copies go through __pipeline_*; barriers stand where all threads of a block come by,
// and no thread returns before one; lanes that exchange through shared memory call __syncwarp;
// nobody waits for another block.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)

#include <cuda_bf16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <utility>

#include "kernels/cuda/check.h"

/// SHARED(float, tile, [32][33]);
#define SHARED(type, name, extents) __shared__ type name extents

namespace longscan {

/// The shared memory that the launch asked for.
template <class T = unsigned char>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char longscan_dynamic_shared[];
  return reinterpret_cast<T*>(longscan_dynamic_shared);
}

/// Hands out dynamic shared memory part by part.
struct SharedArena {
  std::size_t used = 0;

  template <class T>
  __device__ T* take(std::size_t count) {
    T* part = reinterpret_cast<T*>(dynamic_shared() + used);
    used += (count * sizeof(T) + 127) / 128 * 128;
    return part;
  }
};

/// Blocks of a launch.
struct Grid {
  dim3 blocks;
  Grid(dim3 count) : blocks(count) {}
  Grid(std::int64_t count) : blocks(static_cast<unsigned>(count)) {}
};

/// Runs a kernel behind what is on the stream. Throws internal where the launch is refused.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, dim3 block, std::int64_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  constexpr std::int64_t kWithoutAsking = 48 * 1024;
  if (shared_bytes > kWithoutAsking) {
    CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = grid.blocks;
  configuration.blockDim = block;
  configuration.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  configuration.stream = stream;
  CUDA_CHECK(cudaLaunchKernelEx(&configuration, kernel,
                                static_cast<Parameters>(std::forward<Arguments>(arguments))...));
}

}  // namespace longscan

#else

#include <cuda_on_cpu.h>

#endif

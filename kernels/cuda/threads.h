// How work is cut for a GPU: a thread for each piece, and no launch where there is nothing to do.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cuda/gpu.h"

namespace longscan {

constexpr int kWarp = 32;
constexpr int kBlockThreads = 256;

/// Pieces of `piece` that `count` make, the last one perhaps smaller.
constexpr std::int64_t pieces_of(std::int64_t count, std::int64_t piece) {
  return (count + piece - 1) / piece;
}

/// The thread's number in its launch.
__device__ inline std::int64_t thread_number() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/// Starts at least `threads` threads, in blocks of kBlockThreads; none where `threads` is 0.
template <class... Parameters, class... Arguments>
void launch_threads(std::int64_t threads, cudaStream_t stream, void (*kernel)(Parameters...),
                    Arguments&&... arguments) {
  if (threads == 0) return;
  launch(kernel, Grid(pieces_of(threads, kBlockThreads)), dim3(kBlockThreads), 0, stream,
         std::forward<Arguments>(arguments)...);
}

}  // namespace longscan

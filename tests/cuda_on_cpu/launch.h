// The launch of a kernel, as kernels/cuda/gpu.h has it.
#pragma once

#include <cuda_runtime_api.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/executor.h"
#include "tests/cuda_on_cpu/stream.h"

namespace longscan {

/// Blocks of a launch, and where it stands in the source.
struct Grid {
  dim3 blocks;
  cuda_on_cpu::Location where;

  Grid(dim3 count, cuda_on_cpu::Location location = cuda_on_cpu::Location::current())
      : blocks(count), where(location) {}
  Grid(std::integral auto count, cuda_on_cpu::Location location = cuda_on_cpu::Location::current())
      : blocks(static_cast<unsigned>(count)), where(location) {
    if (std::cmp_less(count, 1) || std::cmp_greater(count, 0x7fffffff)) {
      cuda_on_cpu::fail(cuda_on_cpu::describe(location) + ": a grid of " + std::to_string(count) +
                        " blocks");
    }
  }
};

namespace cuda_on_cpu {

template <class Argument>
void check_launch_argument(const Argument& argument, int number) {
  if constexpr (std::is_pointer_v<Argument>) {
    check_pointer_argument(const_cast<const void*>(static_cast<const volatile void*>(argument)),
                           number);
  } else if constexpr (std::is_class_v<Argument> && kSearchesArguments) {
    Argument copy = argument;
    __builtin_clear_padding(&copy);  // whatever stood there before may look like a pointer
    check_argument(&copy, sizeof copy, number);
  }
}

}  // namespace cuda_on_cpu

/// Runs a kernel at once, or keeps it where the stream is being captured. Throws
/// cuda_on_cpu::Fault.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, dim3 block, std::int64_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "they go to the GPU as bytes");
  constexpr std::size_t kMostBytes = 4096;
  static_assert((sizeof(Parameters) + ... + 0) <= kMostBytes);
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
    cuda_on_cpu::LaunchShape shape;

    static void as_thread(const void* opaque) {
      const Call& call = *static_cast<const Call*>(opaque);
      std::apply(call.kernel, call.arguments);
    }
    void operator()() const { cuda_on_cpu::run_grid(shape, as_thread, this); }
  };
  const Call call{kernel,
                  {static_cast<Parameters>(std::forward<Arguments>(arguments))...},
                  {grid.blocks, block, shared_bytes, grid.where}};
  std::apply(
      [](const auto&... values) {
        int number = 0;
        (cuda_on_cpu::check_launch_argument(values, number++), ...);
      },
      call.arguments);
  cuda_on_cpu::enqueue(stream, cuda_on_cpu::WorkKind::kernel, call);
}

}  // namespace longscan

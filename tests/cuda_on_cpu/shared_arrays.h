// Shared memory as kernels declare it.
#pragma once

#include <cstddef>

#include "tests/cuda_on_cpu/executor.h"

/// SHARED(float, tile, [32][33]); is aligned as its type says and no better, as on the GPU: what is
/// read in larger pieces is declared of that type, SHARED(float4, tile, [8]), or comes from an
/// arena. The key is not const, so that no linker takes the keys of two arrays for one.
#define SHARED(type, name, extents)                                                 \
  typedef type longscan_type_of_##name extents;                                     \
  static char longscan_key_of_##name = 0;                                           \
  longscan_type_of_##name& name =                                                   \
      *static_cast<longscan_type_of_##name*>(::longscan::cuda_on_cpu::shared_array( \
          &longscan_key_of_##name, sizeof(longscan_type_of_##name),                 \
          alignof(longscan_type_of_##name), #name))

namespace longscan {

/// The shared memory that the launch asked for.
template <class T = unsigned char>
T* dynamic_shared() {
  return static_cast<T*>(cuda_on_cpu::all_dynamic_shared());
}

/// Hands out dynamic shared memory part by part.
struct SharedArena {
  std::size_t used = 0;

  template <class T>
  T* take(std::size_t count) {
    void* part = cuda_on_cpu::part_of_dynamic_shared(used, count * sizeof(T));
    used += (count * sizeof(T) + 127) / 128 * 128;
    return static_cast<T*>(part);
  }
};

}  // namespace longscan

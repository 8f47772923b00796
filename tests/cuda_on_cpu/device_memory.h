// The memory that plays the GPU's, and pinned host memory: what there is, and who may touch it.
#pragma once

#include <cstddef>

#include "tests/cuda_on_cpu/sanitizers.h"

namespace longscan::cuda_on_cpu {

enum class MemoryKind { pageable, pinned, device };

/// Null where the device is full. Device memory begins as NaN.
void* allocate_memory(MemoryKind kind, std::size_t bytes);
/// False where it is not the beginning of such an allocation.
bool free_memory(MemoryKind kind, void* memory);

/// Of the allocation that holds the address, or pageable.
MemoryKind kind_of(const void* address);
/// Whether all the bytes lie in one allocation on the device.
bool on_device(const void* address, std::size_t bytes);
std::size_t device_bytes_in_use();

/// While one of these lives, device memory may be touched. Else the address sanitizer, where it is
/// at work, reports whoever does so from the host.
class DeviceMemoryOpen {
 public:
  DeviceMemoryOpen();
  ~DeviceMemoryOpen();
  DeviceMemoryOpen(const DeviceMemoryOpen&) = delete;
  DeviceMemoryOpen& operator=(const DeviceMemoryOpen&) = delete;
};

/// Faults where a launch is given a pointer that is neither null nor to memory that the GPU sees.
void check_pointer_argument(const void* pointer, int argument);
/// The address sanitizer knows what points to the heap.
#if defined(LONGSCAN_ADDRESS_SANITIZER)
inline constexpr bool kSearchesArguments = true;
#else
inline constexpr bool kSearchesArguments = false;
#endif
/// Faults where a word of an argument points to the host's heap.
void check_argument(const void* argument, std::size_t bytes, int number);

}  // namespace longscan::cuda_on_cpu

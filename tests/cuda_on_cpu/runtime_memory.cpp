// The CUDA runtime's functions about memory.
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>

#include "tests/cuda_on_cpu/configuration.h"
#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/host_calls.h"
#include "tests/cuda_on_cpu/stream.h"

namespace longscan::cuda_on_cpu {
namespace {

struct Copy2D {
  void* to;
  std::size_t to_pitch;
  const void* from;
  std::size_t from_pitch;
  std::size_t width;
  std::size_t height;

  // From the first byte of the first row to the last one of the last.
  std::size_t to_bytes() const { return (height - 1) * to_pitch + width; }
  std::size_t from_bytes() const { return (height - 1) * from_pitch + width; }

  void operator()() const {
    const DeviceMemoryOpen open;
    for (std::size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<std::byte*>(to) + row * to_pitch,
                   static_cast<const std::byte*>(from) + row * from_pitch, width);
    }
  }
};

// Whether an end of a copy is where its kind says.
bool is_where(const void* address, std::size_t bytes, bool device) {
  return device ? on_device(address, bytes) : kind_of(address) != MemoryKind::device;
}

cudaError_t check(const Copy2D& copy, cudaMemcpyKind kind) {
  if (copy.to_pitch < copy.width || copy.from_pitch < copy.width) return cudaErrorInvalidValue;
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    to_device = kind_of(copy.to) == MemoryKind::device;
    from_device = kind_of(copy.from) == MemoryKind::device;
  }
  const bool right = is_where(copy.to, copy.to_bytes(), to_device) &&
                     is_where(copy.from, copy.from_bytes(), from_device);
  return right ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t copy_in_stream(const Copy2D& copy, cudaMemcpyKind kind, cudaStream_t stream) {
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (const cudaError_t status = check(copy, kind)) return noted(status);
  if (kind_of(copy.to) == MemoryKind::pageable || kind_of(copy.from) == MemoryKind::pageable) {
    if (capture_of(stream) != nullptr) return forbid_in_capture();
    count_wait();
  }
  enqueue(stream, WorkKind::copy, copy);
  return cudaSuccess;
}

cudaError_t copy_now(const Copy2D& copy, cudaMemcpyKind kind) {
  if (const cudaError_t status = forbid_in_capture()) return status;
  count_wait();
  return copy_in_stream(copy, kind, nullptr);
}

cudaError_t fill_in_stream(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!on_device(memory, bytes)) return noted(cudaErrorInvalidValue);
  enqueue(stream, WorkKind::fill, [memory, value, bytes] {
    const DeviceMemoryOpen open;
    std::memset(memory, value, bytes);
  });
  return cudaSuccess;
}

cudaError_t allocate(MemoryKind kind, void** memory, std::size_t bytes) {
  *memory = nullptr;
  if (const cudaError_t status = forbid_in_capture()) return status;
  if (bytes == 0) return cudaSuccess;
  count_allocation();
  *memory = allocate_memory(kind, bytes);
  return noted(*memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t release(MemoryKind kind, void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (const cudaError_t status = forbid_in_capture()) return status;
  count_allocation();
  return noted(free_memory(kind, memory) ? cudaSuccess : cudaErrorInvalidValue);
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

using namespace longscan::cuda_on_cpu;

extern "C" {

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  return allocate(MemoryKind::device, memory, bytes);
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  return allocate(MemoryKind::device, memory, bytes);
}

cudaError_t cudaFree(void* memory) {
  return release(MemoryKind::device, memory);
}

cudaError_t cudaFreeAsync(void* memory, cudaStream_t) {
  return release(MemoryKind::device, memory);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  return allocate(MemoryKind::pinned, memory, bytes);
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  return allocate(MemoryKind::pinned, memory, bytes);
}

cudaError_t cudaFreeHost(void* memory) {
  return release(MemoryKind::pinned, memory);
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = configuration().device_bytes;
  *free = *total - device_bytes_in_use();
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy_now({to, bytes, from, bytes, bytes, 1}, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_in_stream({to, bytes, from, bytes, bytes, 1}, kind, stream);
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  return copy_now({to, to_pitch, from, from_pitch, width, height}, kind);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return copy_in_stream({to, to_pitch, from, from_pitch, width, height}, kind, stream);
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  if (const cudaError_t status = forbid_in_capture()) return status;
  return fill_in_stream(memory, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  return fill_in_stream(memory, value, bytes, stream);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  cudaPointerAttributes result{};
  const MemoryKind kind = kind_of(pointer);
  result.type = kind == MemoryKind::device   ? cudaMemoryTypeDevice
                : kind == MemoryKind::pinned ? cudaMemoryTypeHost
                                             : cudaMemoryTypeUnregistered;
  result.device = kind == MemoryKind::pageable ? -2 : 0;
  if (kind != MemoryKind::pageable) result.devicePointer = const_cast<void*>(pointer);
  if (kind != MemoryKind::device) result.hostPointer = const_cast<void*>(pointer);
  *attributes = result;
  return cudaSuccess;
}

}  // extern "C"

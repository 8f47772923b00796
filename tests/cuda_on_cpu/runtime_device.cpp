// The CUDA runtime's functions about devices, kernels and errors.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/cuda_on_cpu/configuration.h"
#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/host_calls.h"
#include "tests/cuda_on_cpu/scheduler.h"
#include "tests/cuda_on_cpu/stream.h"

namespace longscan::cuda_on_cpu {
namespace {

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

// As an H100 has them, where kernels can tell.
constexpr int kMajor = 9, kMinor = 0;
constexpr int kThreadsOfMultiprocessor = 2048;
constexpr int kBlocksOfMultiprocessor = 32;
constexpr int kRegisters = 64 * 1024;
constexpr int kL2Bytes = 50 << 20;
constexpr int kVersion = 13000;
constexpr int kStaticLimit = static_cast<int>(SharedMemory::kStaticLimit);
constexpr int kMultiprocessorShared = 228 * 1024;
constexpr int kReservedShared = 1024;

int block_limit() {
  return static_cast<int>(configuration().block_shared_bytes);
}

bool exists(int device) {
  return device >= 0 && device < configuration().devices;
}

int blocks_at_once(int threads, std::size_t shared_bytes) {
  const int warps = (threads + kWarpSize - 1) / kWarpSize;
  const int by_threads = kThreadsOfMultiprocessor / (std::max(warps, 1) * kWarpSize);
  const int by_shared = static_cast<int>(kMultiprocessorShared / (shared_bytes + kReservedShared));
  return std::min({by_threads, by_shared, kBlocksOfMultiprocessor});
}

}  // namespace

cudaError_t noted(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

}  // namespace longscan::cuda_on_cpu

using namespace longscan::cuda_on_cpu;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = configuration().devices;
  return noted(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (!exists(device)) return noted(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (!exists(device)) return noted(cudaErrorInvalidDevice);
  cudaDeviceProp result{};
  std::snprintf(result.name, sizeof result.name, "cuda_on_cpu");
  std::memset(result.uuid.bytes, device + 1, sizeof result.uuid.bytes);
  result.totalGlobalMem = configuration().device_bytes;
  result.sharedMemPerBlock = kStaticLimit;
  result.regsPerBlock = kRegisters;
  result.warpSize = kWarpSize;
  result.maxThreadsPerBlock = Scheduler::kMostThreads;
  const int threads[] = {1024, 1024, 64}, blocks[] = {0x7fffffff, 65535, 65535};
  std::copy(std::begin(threads), std::end(threads), result.maxThreadsDim);
  std::copy(std::begin(blocks), std::end(blocks), result.maxGridSize);
  result.totalConstMem = 64 * 1024;
  result.major = kMajor;
  result.minor = kMinor;
  result.multiProcessorCount = configuration().multiprocessors;
  result.concurrentKernels = 1;
  result.asyncEngineCount = 2;
  result.unifiedAddressing = 1;
  result.l2CacheSize = kL2Bytes;
  result.maxThreadsPerMultiProcessor = kThreadsOfMultiprocessor;
  result.sharedMemPerMultiprocessor = kMultiprocessorShared;
  result.regsPerMultiprocessor = kRegisters;
  result.sharedMemPerBlockOptin = block_limit();
  result.maxBlocksPerMultiProcessor = kBlocksOfMultiprocessor;
  result.reservedSharedMemPerBlock = kReservedShared;
  result.pciBusID = device;
  *properties = result;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!exists(device)) return noted(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = Scheduler::kMostThreads;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = kStaticLimit;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = block_limit();
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kMultiprocessorShared;
      return cudaSuccess;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = kReservedShared;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = kWarpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = configuration().multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kThreadsOfMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = kBlocksOfMultiprocessor;
      return cudaSuccess;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *value = kRegisters;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = kL2Bytes;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = kMajor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = kMinor;
      return cudaSuccess;
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrIntegrated:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrMemoryPoolsSupported:
      *value = 1;
      return cudaSuccess;
    default:
      return noted(cudaErrorNotSupported);
  }
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  count_wait();
  return forbid_in_capture();
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
  const bool too_large =
      attribute == cudaFuncAttributeMaxDynamicSharedMemorySize && value > block_limit();
  return noted(too_large || value < 0 ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  cudaFuncAttributes result{};
  result.maxThreadsPerBlock = Scheduler::kMostThreads;
  result.numRegs = 32;
  result.ptxVersion = result.binaryVersion = 10 * kMajor + kMinor;
  result.maxDynamicSharedSizeBytes = block_limit();
  *attributes = result;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t shared_bytes) {
  *blocks = blocks_at_once(threads, shared_bytes);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned) {
  *blocks = blocks_at_once(threads, shared_bytes);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error;
  last_error = cudaSuccess;
  return status;
}

cudaError_t cudaPeekAtLastError() {
  return last_error;
}

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
#define LONGSCAN_NAME(name) \
  case name:                \
    return #name
    LONGSCAN_NAME(cudaSuccess);
    LONGSCAN_NAME(cudaErrorInvalidValue);
    LONGSCAN_NAME(cudaErrorMemoryAllocation);
    LONGSCAN_NAME(cudaErrorInvalidMemcpyDirection);
    LONGSCAN_NAME(cudaErrorInvalidDevice);
    LONGSCAN_NAME(cudaErrorNoDevice);
    LONGSCAN_NAME(cudaErrorInvalidResourceHandle);
    LONGSCAN_NAME(cudaErrorIllegalState);
    LONGSCAN_NAME(cudaErrorNotReady);
    LONGSCAN_NAME(cudaErrorNotSupported);
    LONGSCAN_NAME(cudaErrorStreamCaptureUnsupported);
    LONGSCAN_NAME(cudaErrorStreamCaptureInvalidated);
    LONGSCAN_NAME(cudaErrorStreamCaptureUnmatched);
    LONGSCAN_NAME(cudaErrorStreamCaptureUnjoined);
    LONGSCAN_NAME(cudaErrorStreamCaptureImplicit);
    LONGSCAN_NAME(cudaErrorStreamCaptureWrongThread);
    LONGSCAN_NAME(cudaErrorCapturedEvent);
    LONGSCAN_NAME(cudaErrorGraphExecUpdateFailure);
#undef LONGSCAN_NAME
    default:
      return "an error of CUDA";
  }
}

const char* cudaGetErrorString(cudaError_t status) {
  return cudaGetErrorName(status);
}

}  // extern "C"

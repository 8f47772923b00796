// The CUDA runtime's functions about devices and memory.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>

#include "tests/cuda_on_cpu/configuration.h"
#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

TEST(Runtime, DevicesAreAsConfigured) {
  const Configuration before = configuration();
  int count = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  configuration().devices = 3;
  EXPECT_EQ(cudaSetDevice(2), cudaSuccess);
  int device = 0;
  EXPECT_EQ(cudaGetDevice(&device), cudaSuccess);
  EXPECT_EQ(device, 2);
  configuration().devices = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  configuration() = before;
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  cudaGetLastError();
}

TEST(Runtime, PropertiesAndAttributesAgree) {
  cudaDeviceProp properties{};
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_STREQ(properties.name, "cuda_on_cpu");
  EXPECT_EQ(properties.major, 9);
  int value = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
  EXPECT_EQ(value, properties.multiProcessorCount);
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
            cudaSuccess);
  EXPECT_EQ(value, 227 * 1024);
  EXPECT_EQ(static_cast<std::size_t>(value), properties.sharedMemPerBlockOptin);
}

TEST(Runtime, TheLastErrorIsKeptUntilItIsRead) {
  cudaGetLastError();
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorInvalidDevice), "cudaErrorInvalidDevice");
}

TEST(Runtime, MemoryIsCountedAndEnds) {
  std::size_t before = 0, after = 0, total = 0;
  cudaMemGetInfo(&before, &total);
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 1 << 20), cudaSuccess);
  cudaMemGetInfo(&after, &total);
  EXPECT_EQ(before - after, std::size_t{1} << 20);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(cudaFree(&total), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  cudaGetLastError();
}

TEST(Runtime, CopiesGoWhereTheirKindSaysAndStayInside) {
  std::vector<int> host(64);
  std::iota(host.begin(), host.end(), 0);
  const DeviceArray<int> from(host);
  DeviceArray<int> to(64);
  const std::size_t bytes = 64 * sizeof(int);
  EXPECT_EQ(cudaMemcpy(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(to.values(), host);
  EXPECT_EQ(cudaMemcpy(to.get(), host.data(), bytes, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(to.get(), from.get(), bytes, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(to.get(), host.data(), bytes, cudaMemcpyDeviceToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(to.get() + 1, from.get(), bytes, cudaMemcpyDeviceToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(to.get() + 1, 0, bytes), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(to.get() + 60, 1, 16), cudaSuccess);
  EXPECT_EQ(to.values()[60], 0x01010101);
  EXPECT_EQ(to.values()[59], 59);
  cudaGetLastError();
}

TEST(Runtime, PlanesAreCopiedRowByRow) {
  std::vector<int> host(6 * 8);
  std::iota(host.begin(), host.end(), 0);
  const DeviceArray<int> from(host);
  std::vector<int> to(3 * 5, -1);
  EXPECT_EQ(cudaMemcpy2D(to.data(), 5 * sizeof(int), from.get() + 8 + 2, 8 * sizeof(int),
                         4 * sizeof(int), 3, cudaMemcpyDeviceToHost),
            cudaSuccess);
  EXPECT_EQ(to, (std::vector<int>{10, 11, 12, 13, -1, 18, 19, 20, 21, -1, 26, 27, 28, 29, -1}));
}

TEST(Runtime, PointersTellWhereTheyPoint) {
  const DeviceArray<int> array(4);
  int local = 0;
  cudaPointerAttributes attributes{};
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, array.get() + 2), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, &local), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

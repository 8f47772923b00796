// CUDA's functions for one thread against what its manual says of them.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

__global__ void count_up(int* ints, float* floats, unsigned long long* words, unsigned* wrapped) {
  atomicAdd(ints, 3);
  atomicSub(ints + 1, 2);
  atomicMax(ints + 2, static_cast<int>(threadIdx.x));
  atomicMin(ints + 3, -static_cast<int>(threadIdx.x));
  atomicAdd(floats, 0.5f);
  atomicMax(words, 1ull << (threadIdx.x % 48));
  atomicOr(words + 1, 1ull << threadIdx.x);
  atomicInc(wrapped, 9);
  atomicExch(ints + 4, 7);
  atomicCAS(ints + 5, static_cast<int>(threadIdx.x), static_cast<int>(threadIdx.x) + 1);
}

TEST(Intrinsics, AtomicsLoseNothing) {
  DeviceArray<int> ints(std::vector<int>(6, 0));
  DeviceArray<float> floats(std::vector<float>(1, 0.0f));
  DeviceArray<unsigned long long> words(std::vector<unsigned long long>(2, 0));
  DeviceArray<unsigned> wrapped(std::vector<unsigned>(1, 0));
  launch(count_up, 1, 64, 0, nullptr, ints.get(), floats.get(), words.get(), wrapped.get());
  EXPECT_EQ(ints.values(), (std::vector<int>{192, -128, 63, -63, 7, 64}));
  EXPECT_EQ(floats.values()[0], 32.0f);
  EXPECT_EQ(words.values(), (std::vector<unsigned long long>{1ull << 47, ~0ull}));
  EXPECT_EQ(wrapped.values()[0], 4u);
}

__global__ void copy_vectors(float4* out, const float4* in) {
  __stcs(out + threadIdx.x, __ldcs(in + threadIdx.x));
  auto* words = reinterpret_cast<uint4*>(out) + 32;
  __stcg(words + threadIdx.x, __ldg(reinterpret_cast<const uint4*>(in) + threadIdx.x));
}

TEST(Intrinsics, VectorsAreLoadedAndStoredWhole) {
  std::vector<float> values(128);
  for (int i = 0; i < 128; ++i) values[i] = static_cast<float>(i);
  const DeviceArray<float> in(values);
  DeviceArray<float> out(256);
  launch(copy_vectors, 1, 32, 0, nullptr, reinterpret_cast<float4*>(out.get()),
         reinterpret_cast<const float4*>(in.get()));
  const std::vector<float> found = out.values();
  for (int i = 0; i < 256; ++i) EXPECT_EQ(found[i], values[i % 128]);
}

TEST(Intrinsics, BitsAreCounted) {
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__brev(1u), 0x80000000u);
  EXPECT_EQ(__umulhi(0x80000000u, 6u), 3u);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7430u), 0x77443300u);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3f800000u);
  EXPECT_EQ(__int_as_float(0x40000000), 2.0f);
}

TEST(Intrinsics, MinimumAndMaximumPreferNumbersToNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(max(nan, 1.0f), 1.0f);
  EXPECT_EQ(min(1.0f, nan), 1.0f);
  EXPECT_EQ(min(3, std::int64_t{2}), 2);
  EXPECT_EQ(max(3u, 2u), 3u);
  EXPECT_EQ(__saturatef(nan), 0.0f);
}

TEST(Intrinsics, ArithmeticIsThatOfTheHost) {
  EXPECT_NEAR(__expf(1.0f), std::exp(1.0), 1e-6);
  EXPECT_NEAR(__logf(3.0f), std::log(3.0), 1e-6);
  EXPECT_NEAR(rsqrtf(3.0f), 1 / std::sqrt(3.0), 1e-6);
  EXPECT_EQ(__fmaf_rn(1 + 1e-4f, 1 + 1e-4f, -1.0f), std::fma(1 + 1e-4f, 1 + 1e-4f, -1.0f));
  const __nv_bfloat162 pair = __float22bfloat162_rn({1.0f, 2.5f});
  EXPECT_EQ(__bfloat1622float2(pair).y, 2.5f);
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

// Tensor cores against products in double, with fragments filled as the PTX ISA's tables say.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

std::vector<float> random_floats(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<__nv_bfloat16> rounded(const std::vector<float>& values) {
  std::vector<__nv_bfloat16> result;
  for (const float value : values) result.push_back(__float2bfloat16(value));
  return result;
}

__device__ std::uint32_t pair_of(__nv_bfloat16 low, __nv_bfloat16 high) {
  return static_cast<std::uint32_t>(__bfloat16_as_ushort(high)) << 16 | __bfloat16_as_ushort(low);
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type": groupID = lane >> 2,
// threadID_in_group = lane % 4.
__global__ void multiply_bf16(float* d, const __nv_bfloat16* a, const __nv_bfloat16* b) {
  const int lane = static_cast<int>(threadIdx.x), group = lane >> 2, in_group = lane % 4;
  std::uint32_t fragment_a[4], fragment_b[2];
  for (int i = 0; i < 8; i += 2) {
    const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
    const int column = in_group * 2 + (i >= 4 ? 8 : 0);
    fragment_a[i / 2] = pair_of(a[row * 16 + column], a[row * 16 + column + 1]);
  }
  for (int i = 0; i < 4; i += 2) {
    const int row = in_group * 2 + (i >= 2 ? 8 : 0);
    fragment_b[i / 2] = pair_of(b[row * 8 + group], b[(row + 1) * 8 + group]);
  }
  float fragment_d[4];
  const auto place = [&](int i) {
    return (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1);
  };
  for (int i = 0; i < 4; ++i) fragment_d[i] = d[place(i)];
  warp_mma_m16n8k16(fragment_d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[place(i)] = fragment_d[i];
}

__global__ void multiply_tf32(float* d, const float* a, const float* b) {
  const int lane = static_cast<int>(threadIdx.x), group = lane >> 2, in_group = lane % 4;
  std::uint32_t fragment_a[4], fragment_b[2];
  for (int i = 0; i < 4; ++i) {
    const int row = (i == 0 || i == 2) ? group : group + 8;
    const int column = i < 2 ? in_group : in_group + 4;
    fragment_a[i] = __float_as_uint(a[row * 8 + column]);
  }
  for (int i = 0; i < 2; ++i) {
    fragment_b[i] = __float_as_uint(b[(in_group + 4 * i) * 8 + group]);
  }
  float fragment_d[4];
  const auto place = [&](int i) {
    return (i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1);
  };
  for (int i = 0; i < 4; ++i) fragment_d[i] = d[place(i)];
  warp_mma_m16n8k8_tf32(fragment_d, fragment_a, fragment_b);
  for (int i = 0; i < 4; ++i) d[place(i)] = fragment_d[i];
}

template <class T>
void expect_product(const std::vector<float>& found, const std::vector<float>& before,
                    const std::vector<T>& a, const std::vector<T>& b, int depth) {
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double expected = before[row * 8 + column];
      for (int k = 0; k < depth; ++k) {
        expected += static_cast<double>(static_cast<float>(a[row * depth + k])) *
                    static_cast<double>(static_cast<float>(b[k * 8 + column]));
      }
      EXPECT_NEAR(found[row * 8 + column], expected, 1e-5) << row << " " << column;
    }
  }
}

TEST(TensorCore, ProductOfBf16IsThatInDouble) {
  const auto a = rounded(random_floats(16 * 16, 1)), b = rounded(random_floats(16 * 8, 2));
  const auto before = random_floats(16 * 8, 3);
  const DeviceArray<__nv_bfloat16> device_a(a), device_b(b);
  in_all_orders([&] {
    DeviceArray<float> d(before);
    launch(multiply_bf16, 1, 32, 0, nullptr, d.get(), device_a.get(), device_b.get());
    expect_product(d.values(), before, a, b, 16);
  });
}

TEST(TensorCore, ProductOfTf32IgnoresTheBitsThatTf32LacksAndIsThatInDouble) {
  auto a = random_floats(16 * 8, 4), b = random_floats(8 * 8, 5);
  const auto before = random_floats(16 * 8, 6);
  const DeviceArray<float> device_a(a), device_b(b);
  DeviceArray<float> d(before);
  launch(multiply_tf32, 1, 32, 0, nullptr, d.get(), device_a.get(), device_b.get());
  for (auto* values : {&a, &b}) {
    for (float& value : *values) {
      value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) >> 13 << 13);
    }
  }
  expect_product(d.values(), before, a, b, 8);
}

// Tiles of 8 x 8 numbers, each its own place; rows have a gap of 8 behind them.
__global__ void load_tiles(std::uint32_t* out, bool transposed) {
  constexpr int kStride = 16;
  SHARED(uint4, storage, [32 * kStride / 8]);
  auto* tile = reinterpret_cast<std::uint16_t*>(storage);
  const int lane = static_cast<int>(threadIdx.x);
  for (int column = 0; column < 8; ++column) {
    tile[lane * kStride + column] = static_cast<std::uint16_t>(lane * 8 + column);
  }
  __syncwarp();
  std::uint32_t fragment[4];
  if (transposed) {
    warp_ldmatrix_x4_trans(fragment, tile + lane * kStride);
  } else {
    warp_ldmatrix_x4(fragment, tile + lane * kStride);
  }
  for (int i = 0; i < 4; ++i) out[lane * 4 + i] = fragment[i];
}

TEST(TensorCore, LdmatrixGivesEveryLaneItsPairOfElements) {
  for (const bool transposed : {false, true}) {
    DeviceArray<std::uint32_t> out(32 * 4);
    launch(load_tiles, 1, 32, 0, nullptr, out.get(), transposed);
    const auto found = out.values();
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < 4; ++matrix) {
        for (int half = 0; half < 2; ++half) {
          const int major = lane / 4, minor = lane % 4 * 2 + half;
          const int row = transposed ? minor : major, column = transposed ? major : minor;
          EXPECT_EQ(found[lane * 4 + matrix] >> (16 * half) & 0xffff,
                    static_cast<unsigned>(matrix * 64 + row * 8 + column));
        }
      }
    }
  }
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

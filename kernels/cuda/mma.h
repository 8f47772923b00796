// Products of 16 x 16 tiles on tensor cores, the same for bf16 and f32.
//
// One layout serves every operand: with g = lane / 4 and t = lane % 4, a lane holds the rows g and
// g + 8 of a tile and of each the columns 2 t, 2 t + 1, 2 t + 8, 2 t + 9. Both operands are held so
// that the sum runs over their columns, hence `multiply` adds left right^T, and what it leaves may
// be an operand of the next product without leaving the registers.
//
// bf16 are multiplied as they are. f32 are split into two TF32 numbers, of whose four products the
// least is left out: about 21 bits of mantissa. An f32 operand beside bf16 ones is split likewise
// (Precise), or does with TF32's 11 bits (multiply_cut).
#pragma once

#include <type_traits>

#include "kernels/cuda/gpu.h"

namespace longscan::mma {

constexpr int kTile = 16;
constexpr int kLane = 8;  ///< numbers of a tile in a lane

/// What a row of a tile in shared memory is padded by, in elements, so that a warp's loads meet
/// different banks and rows stay aligned to 16 bytes.
constexpr int kPadding = 8;

/// Row and column of a lane's number `index` of a tile.
__device__ inline int row_of(int lane, int index) {
  return lane / 4 + 8 * (index / 2 % 2);
}
__device__ inline int column_of(int lane, int index) {
  return 2 * (lane % 4) + index % 2 + 8 * (index / 4);
}

template <class T>
struct Fragment;

template <>
struct Fragment<float> {
  float numbers[kLane];

  __device__ float& operator[](int index) { return numbers[index]; }
  __device__ float operator[](int index) const { return numbers[index]; }
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kLane; ++i) numbers[i] = 0;
  }
};

/// Pairs of numbers, as tensor cores take them.
template <>
struct Fragment<__nv_bfloat16> {
  std::uint32_t pairs[kLane / 2];
};

using Accumulator = Fragment<float>;

__device__ inline std::uint32_t pack(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
         static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}
__device__ inline float first_of(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ inline float second_of(std::uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

/// What the hardware does, 32 lanes at a time.
namespace hardware {

#if defined(__CUDACC__)

__device__ inline void multiply_bf16(float* sum, const std::uint32_t (&a)[4], std::uint32_t b0,
                                     std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline void multiply_tf32(float* sum, const std::uint32_t (&a)[4], std::uint32_t b0,
                                     std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Four 8 x 8 tiles of bf16: lane 8 i + j gives the address of row j of tile i.
__device__ inline void load_matrices(std::uint32_t (&tiles)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(std::uint32_t (&tiles)[4], const void* row) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(address)
               : "memory");
}

#else

inline void multiply_bf16(float* sum, const std::uint32_t (&a)[4], std::uint32_t b0,
                          std::uint32_t b1) {
  float d[4] = {sum[0], sum[1], sum[2], sum[3]};
  const std::uint32_t b[2] = {b0, b1};
  cuda_on_cpu::warp_mma_m16n8k16(d, a, b);
  for (int i = 0; i < 4; ++i) sum[i] = d[i];
}
inline void multiply_tf32(float* sum, const std::uint32_t (&a)[4], std::uint32_t b0,
                          std::uint32_t b1) {
  float d[4] = {sum[0], sum[1], sum[2], sum[3]};
  const std::uint32_t b[2] = {b0, b1};
  cuda_on_cpu::warp_mma_m16n8k8_tf32(d, a, b);
  for (int i = 0; i < 4; ++i) sum[i] = d[i];
}
inline void load_matrices(std::uint32_t (&tiles)[4], const void* row) {
  cuda_on_cpu::warp_ldmatrix_x4(tiles, row);
}
inline void load_matrices_transposed(std::uint32_t (&tiles)[4], const void* row) {
  cuda_on_cpu::warp_ldmatrix_x4_trans(tiles, row);
}

#endif

}  // namespace hardware

/// The tile at `shared`, whose rows are `stride` numbers apart: both multiples of 8 numbers.
__device__ inline void load(Fragment<__nv_bfloat16>& tile, const __nv_bfloat16* shared, int stride,
                            int lane) {
  hardware::load_matrices(tile.pairs, shared + lane % 16 * stride + lane / 16 * 8);
}
__device__ inline void load(Fragment<float>& tile, const float* shared, int stride, int lane) {
#pragma unroll
  for (int i = 0; i < kLane; i += 2) {
    const float2 pair =
        *reinterpret_cast<const float2*>(shared + row_of(lane, i) * stride + column_of(lane, i));
    tile[i] = pair.x;
    tile[i + 1] = pair.y;
  }
}

/// The tile whose transpose lies at `shared`.
__device__ inline void load_transposed(Fragment<__nv_bfloat16>& tile, const __nv_bfloat16* shared,
                                       int stride, int lane) {
  hardware::load_matrices_transposed(
      tile.pairs, shared + (lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * 8);
}
__device__ inline void load_transposed(Fragment<float>& tile, const float* shared, int stride,
                                       int lane) {
#pragma unroll
  for (int i = 0; i < kLane; ++i) tile[i] = shared[column_of(lane, i) * stride + row_of(lane, i)];
}

/// Writes a tile to shared memory.
__device__ inline void store(float* shared, int stride, const Fragment<float>& tile, int lane) {
#pragma unroll
  for (int i = 0; i < kLane; i += 2) {
    *reinterpret_cast<float2*>(shared + row_of(lane, i) * stride + column_of(lane, i)) =
        make_float2(tile[i], tile[i + 1]);
  }
}
__device__ inline void store(__nv_bfloat16* shared, int stride, const Fragment<float>& tile,
                             int lane) {
#pragma unroll
  for (int i = 0; i < kLane; i += 2) {
    *reinterpret_cast<std::uint32_t*>(shared + row_of(lane, i) * stride + column_of(lane, i)) =
        pack(tile[i], tile[i + 1]);
  }
}

/// An accumulator as an operand of the next product.
template <class T>
__device__ inline Fragment<T> rounded(const Fragment<float>& tile) {
  if constexpr (std::is_same_v<T, float>) {
    return tile;
  } else {
    Fragment<T> result;
#pragma unroll
    for (int i = 0; i < kLane / 2; ++i) result.pairs[i] = pack(tile[2 * i], tile[2 * i + 1]);
    return result;
  }
}

/// An f32 tile as an operand beside tiles of T.
template <class T>
struct Precise;
template <>
struct Precise<float> {
  Fragment<float> whole;

  __device__ explicit Precise(const Fragment<float>& tile) : whole(tile) {}
};
template <>
struct Precise<__nv_bfloat16> {
  Fragment<__nv_bfloat16> high;
  Fragment<__nv_bfloat16> low;

  __device__ explicit Precise(const Fragment<float>& tile) {
#pragma unroll
    for (int i = 0; i < kLane / 2; ++i) {
      const float first = tile[2 * i], second = tile[2 * i + 1];
      high.pairs[i] = pack(first, second);
      low.pairs[i] = pack(first - first_of(high.pairs[i]), second - second_of(high.pairs[i]));
    }
  }
};

/// sum += left right^T.
__device__ inline void multiply(Accumulator& sum, const Fragment<__nv_bfloat16>& left,
                                const Fragment<__nv_bfloat16>& right) {
  hardware::multiply_bf16(sum.numbers, left.pairs, right.pairs[0], right.pairs[2]);
  hardware::multiply_bf16(sum.numbers + 4, left.pairs, right.pairs[1], right.pairs[3]);
}

/// An f32 number as what TF32 keeps of it and the rest.
struct Tf32Pair {
  std::uint32_t high;
  std::uint32_t low;

  __device__ explicit Tf32Pair(float number) {
    high = __float_as_uint(number) & 0xffffe000u;
    low = __float_as_uint(number - __uint_as_float(high));
  }
};

__device__ inline void multiply(Accumulator& sum, const Fragment<float>& left,
                                const Fragment<float>& right) {
  // Each instruction sums over 8 columns and takes t and t + 4 of them for 2 t and 2 t + 1, which
  // is one as long as left and right agree.
#pragma unroll
  for (int step = 0; step < kLane; step += 4) {
    std::uint32_t high[4], low[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Tf32Pair pair(left[step + i / 2 + i % 2 * 2]);
      high[i] = pair.high;
      low[i] = pair.low;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const Tf32Pair first(right[step + 2 * half]), second(right[step + 2 * half + 1]);
      float* part = sum.numbers + 4 * half;
      hardware::multiply_tf32(part, low, first.high, second.high);
      hardware::multiply_tf32(part, high, first.low, second.low);
      hardware::multiply_tf32(part, high, first.high, second.high);
    }
  }
}

__device__ inline void multiply(Accumulator& sum, const Precise<float>& left,
                                const Fragment<float>& right) {
  multiply(sum, left.whole, right);
}
__device__ inline void multiply(Accumulator& sum, const Fragment<float>& left,
                                const Precise<float>& right) {
  multiply(sum, left, right.whole);
}
__device__ inline void multiply(Accumulator& sum, const Precise<__nv_bfloat16>& left,
                                const Fragment<__nv_bfloat16>& right) {
  multiply(sum, left.low, right);
  multiply(sum, left.high, right);
}
__device__ inline void multiply(Accumulator& sum, const Fragment<__nv_bfloat16>& left,
                                const Precise<__nv_bfloat16>& right) {
  multiply(sum, left, right.low);
  multiply(sum, left, right.high);
}

/// What is left of an f32 number as an operand of `multiply_cut`.
__device__ inline float cut(float number) {
  return __uint_as_float(__float_as_uint(number) & 0xffffe000u);
}

/// sum += left right^T of f32 tiles cut to 11 bits of mantissa.
__device__ inline void multiply_cut(Accumulator& sum, const Fragment<float>& left,
                                    const Fragment<float>& right) {
#pragma unroll
  for (int step = 0; step < kLane; step += 4) {
    const std::uint32_t bits[4] = {__float_as_uint(left[step]), __float_as_uint(left[step + 2]),
                                   __float_as_uint(left[step + 1]),
                                   __float_as_uint(left[step + 3])};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      hardware::multiply_tf32(sum.numbers + 4 * half, bits, __float_as_uint(right[step + 2 * half]),
                              __float_as_uint(right[step + 2 * half + 1]));
    }
  }
}

}  // namespace longscan::mma

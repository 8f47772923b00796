// A matrix product as kernels for GPUs write it: tiles that arrive by asynchronous copies while the
// tiles before them are multiplied. What keeps its steps apart can be left out piece by piece.
#pragma once

#include <cstdint>

#include "cuda_on_cpu.h"

namespace longscan::cuda_on_cpu {

enum class LeftOut { nothing, wait_for_copies, barrier_after_arrival, barrier_before_next_copies };

constexpr int kTileRows = 32, kTileColumns = 16, kTileDepth = 16, kTileThreads = 64;
constexpr int kTileStride = 24;  // elements: rows begin at multiples of 16 bytes

struct TiledProduct {
  float* out;              // [rows, columns]
  const __nv_bfloat16* a;  // [rows, depth]
  const __nv_bfloat16* b;  // [columns, depth]
  int rows;
  int columns;
  int depth;  // a multiple of kTileDepth
};

// Eight elements a thread; rows beyond the matrix are zero.
__device__ inline void fetch_tile(__nv_bfloat16* tile, int tile_rows, const __nv_bfloat16* matrix,
                                  int first_row, int rows, int depth, int k) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int piece = thread; piece < tile_rows * 2; piece += kTileThreads) {
    const int row = piece / 2, column = piece % 2 * 8;
    const bool inside = first_row + row < rows;
    const __nv_bfloat16* from =
        matrix + static_cast<std::int64_t>(inside ? first_row + row : 0) * depth + k + column;
    __pipeline_memcpy_async(tile + row * kTileStride + column, from, 16, inside ? 0 : 16);
  }
}

template <LeftOut kLeftOut>
__global__ void __launch_bounds__(kTileThreads) multiply_tiles(const TiledProduct product) {
  SharedArena arena;
  __nv_bfloat16 *a_tiles[2], *b_tiles[2];
  for (auto& tile : a_tiles) tile = arena.take<__nv_bfloat16>(kTileRows * kTileStride);
  for (auto& tile : b_tiles) tile = arena.take<__nv_bfloat16>(kTileColumns * kTileStride);
  const int first_row = static_cast<int>(blockIdx.y) * kTileRows;
  const int first_column = static_cast<int>(blockIdx.x) * kTileColumns;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto fetch = [&](int k, int buffer) {
    if (k < product.depth) {
      fetch_tile(a_tiles[buffer], kTileRows, product.a, first_row, product.rows, product.depth, k);
      fetch_tile(b_tiles[buffer], kTileColumns, product.b, first_column, product.columns,
                 product.depth, k);
    }
    __pipeline_commit();
  };

  float sums[2][4] = {};
  fetch(0, 0);
  for (int k = 0, buffer = 0; k < product.depth; k += kTileDepth, buffer ^= 1) {
    fetch(k + kTileDepth, buffer ^ 1);
    if (kLeftOut != LeftOut::wait_for_copies) __pipeline_wait_prior(1);
    if (kLeftOut != LeftOut::barrier_after_arrival) __syncthreads();
    std::uint32_t a[4], b[4];
    const int half = lane / 8 % 2 * 8, other_half = lane / 16 * 8;
    warp_ldmatrix_x4(a, a_tiles[buffer] + (warp * 16 + lane % 8 + half) * kTileStride + other_half);
    warp_ldmatrix_x4(b, b_tiles[buffer] + (lane % 8 + other_half) * kTileStride + half);
    warp_mma_m16n8k16(sums[0], a, {b[0], b[1]});
    warp_mma_m16n8k16(sums[1], a, {b[2], b[3]});
    if (kLeftOut != LeftOut::barrier_before_next_copies) __syncthreads();
  }
  __pipeline_wait_prior(0);

  for (int part = 0; part < 8; ++part) {
    const int row = first_row + warp * 16 + lane / 4 + part % 4 / 2 * 8;
    const int column = first_column + part / 4 * 8 + lane % 4 * 2 + part % 2;
    if (row < product.rows && column < product.columns) {
      product.out[static_cast<std::int64_t>(row) * product.columns + column] =
          sums[part / 4][part % 4];
    }
  }
}

template <LeftOut kLeftOut = LeftOut::nothing>
void launch_tiled_product(const TiledProduct& product) {
  const dim3 blocks(static_cast<unsigned>((product.columns + kTileColumns - 1) / kTileColumns),
                    static_cast<unsigned>((product.rows + kTileRows - 1) / kTileRows));
  constexpr std::int64_t kBytes = 2 * (kTileRows + kTileColumns) * kTileStride * 2;
  launch(multiply_tiles<kLeftOut>, blocks, kTileThreads, kBytes, nullptr, product);
}

}  // namespace longscan::cuda_on_cpu

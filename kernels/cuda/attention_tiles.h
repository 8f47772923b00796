// What the kernels of attention with a softmax share: tiles of one head's tokens in shared memory,
// and their products.
//
// A block works on the rows of one tile, a warp on 16 of them, while tiles of columns pass by. A
// warp keeps its sums in registers.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/mma.h"

namespace longscan::attention {

using mma::Accumulator;
using mma::Fragment;
using mma::kTile;

constexpr int kWarp = 32;

/// Tiles of tokens with `kDim` numbers each, of which the last may be padding. Sizes keep all tiles
/// of a block within the shared memory of an A100, 163 KiB; GPUs that have less refuse large heads.
template <int kDim, class T>
struct TileShape {
  static constexpr int kStride = kDim + mma::kPadding;
  static constexpr int kBytes = kDim * static_cast<int>(sizeof(T));
  static constexpr int kRows = kBytes > 512 ? 32 : 64;
  static constexpr int kWarps = kRows / kTile;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kDimTiles = kDim / kTile;

  static constexpr std::int64_t bytes(int rows) {
    return std::int64_t{rows} * kStride * static_cast<int>(sizeof(T)) + 128;
  }
};

/// Launches a kernel whose blocks hold tiles of heads of `dim` numbers. Throws usage where the GPU
/// has not the shared memory that they take.
template <class... Parameters, class... Arguments>
void launch_tiles(Cuda& cuda, std::int64_t dim, void (*kernel)(Parameters...), Grid grid,
                  dim3 block, std::int64_t shared_bytes, Arguments&&... arguments) {
  if (shared_bytes > cuda.shared_memory()) refuse_tiles(dim, shared_bytes, cuda.shared_memory());
  launch(kernel, grid, block, shared_bytes, cuda.stream(), std::forward<Arguments>(arguments)...);
}

__device__ inline int lane_of_thread() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int warp_of_thread() {
  return static_cast<int>(threadIdx.x) / kWarp;
}

/// Rows of one head in global memory. With `vectors` whole rows may be read 16 bytes at a time.
template <class T>
struct HeadRows {
  T* data;
  std::int64_t stride;
  int dim;
  bool vectors;

  /// Of [tokens, heads, dim].
  __device__ HeadRows(const Tensor& tensor, std::int64_t head, bool in_vectors)
      : data(data_of<T>(tensor) + head * tensor.stride[1]),
        stride(tensor.stride[0]),
        dim(static_cast<int>(tensor.shape[2])),
        vectors(in_vectors) {}
  __device__ HeadRows(T* first, std::int64_t row_stride, int columns, bool in_vectors)
      : data(first), stride(row_stride), dim(columns), vectors(in_vectors) {}

  __device__ T* row(std::int64_t index) const { return data + index * stride; }
  __device__ HeadRows from(std::int64_t index) const { return {row(index), stride, dim, vectors}; }
};

/// Begins to copy the first `kRows` rows to shared memory, by all threads of the block: those that
/// `keep(row)` leaves out and columns beyond dim become zeros, whatever stands there.
/// `wait_for_rows` and a barrier complete it.
template <int kRows, int kDim, class T, class Keep>
__device__ void begin_to_load(T* shared, const HeadRows<T>& rows, Keep keep) {
  constexpr int kStride = TileShape<kDim, T>::kStride;
  constexpr int kPieces = kDim / kVector<T>;
  const int threads = static_cast<int>(blockDim.x);
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPieces; i += threads) {
    const int row = i / kPieces;
    const int column = i % kPieces * kVector<T>;
    T* to = shared + row * kStride + column;
    const bool kept = keep(row);
    if (rows.vectors && kept && column < rows.dim) {
      __pipeline_memcpy_async(to, rows.row(row) + column, kVectorBytes);
      continue;
    }
    float numbers[kVector<T>];
#pragma unroll
    for (int j = 0; j < kVector<T>; ++j) {
      numbers[j] = kept && column + j < rows.dim ? to_float(rows.row(row)[column + j]) : 0.0f;
    }
    store(to, numbers);
  }
}
__device__ inline void wait_for_rows() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

/// A tile in shared memory as an operand beside tiles of T: itself, or f32 beside bf16 in two
/// parts.
template <class T, class Stored>
__device__ auto operand(const Fragment<Stored>& tile) {
  if constexpr (std::is_same_v<T, Stored>) {
    return tile;
  } else {
    return mma::Precise<T>(tile);
  }
}
template <class T, class Stored>
__device__ auto load_operand(const Stored* shared, int stride) {
  Fragment<Stored> tile;
  mma::load(tile, shared, stride, lane_of_thread());
  return operand<T>(tile);
}
template <class T, class Stored>
__device__ auto load_operand_transposed(const Stored* shared, int stride) {
  Fragment<Stored> tile;
  mma::load_transposed(tile, shared, stride, lane_of_thread());
  return operand<T>(tile);
}

template <int kTiles>
__device__ void clear(Accumulator (&tiles)[kTiles]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) tiles[i].clear();
}

/// scores += left right^T, of 16 rows and 16 * kTiles rows of kDim numbers in shared memory.
template <class T, int kDim, int kTiles, class Left, class Right>
__device__ void add_products(Accumulator (&scores)[kTiles], const Left* left, const Right* right) {
  constexpr int kLeftStride = TileShape<kDim, Left>::kStride;
  constexpr int kRightStride = TileShape<kDim, Right>::kStride;
#pragma unroll 2
  for (int column = 0; column < kDim; column += kTile) {
    const auto left_tile = load_operand<T>(left + column, kLeftStride);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      mma::multiply(scores[i], left_tile,
                    load_operand<T>(right + i * kTile * kRightStride + column, kRightStride));
    }
  }
}

/// scores = left right^T.
template <class T, int kDim, int kTiles, class Left, class Right>
__device__ void multiply_rows(Accumulator (&scores)[kTiles], const Left* left, const Right* right) {
  clear(scores);
  add_products<T, kDim>(scores, left, right);
}

/// sums += weights right, of 16 rows of 16 numbers in registers and 16 rows of kDim in shared
/// memory.
template <class T, int kDim, int kSums, class Weights, class Right>
__device__ void add_weighted(Accumulator (&sums)[kSums], const Weights& weights,
                             const Right* right) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    mma::multiply(sums[i], weights,
                  load_operand_transposed<T>(right + i * kTile, TileShape<kDim, Right>::kStride));
  }
}
/// The same with 16 * kTiles weights in a row, and as many rows.
template <class T, int kDim, int kTiles, int kSums, class Right>
__device__ void add_weighted(Accumulator (&sums)[kSums], const Accumulator (&weights)[kTiles],
                             const Right* right) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    add_weighted<T, kDim>(sums, mma::rounded<T>(weights[i]),
                          right + i * kTile * TileShape<kDim, Right>::kStride);
  }
}

/// Which of a lane's two rows a number of an accumulator belongs to: row g or g + 8 of a tile.
__device__ inline int half_of(int index) {
  return index / 2 % 2;
}

/// Calls `body(number, half, row, column)` for a lane's numbers of 16 rows.
template <int kTiles, class Body>
__device__ void for_each_number(Accumulator (&tiles)[kTiles], Body body) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < mma::kLane; ++j) {
      body(tiles[i][j], half_of(j), mma::row_of(lane, j), i * kTile + mma::column_of(lane, j));
    }
  }
}

/// The same with the numbers of two at the same place.
template <int kTiles, class Body>
__device__ void for_each_number(Accumulator (&first)[kTiles], Accumulator (&second)[kTiles],
                                Body body) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < mma::kLane; ++j) {
      body(first[i][j], second[i][j], half_of(j), mma::row_of(lane, j),
           i * kTile + mma::column_of(lane, j));
    }
  }
}

/// Calls `body(pair, address, count)` for pairs of numbers of 16 rows that go to the first `count`
/// rows of `rows`, or come from there, from column `first` on. `count`: 2, or 1 at a row's end.
template <int kTiles, class T, class Body>
__device__ void for_each_pair(Accumulator (&tiles)[kTiles], const HeadRows<T>& rows,
                              std::int64_t count, int first, Body body) {
  const int lane = lane_of_thread();
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < mma::kLane; j += 2) {
      const int row = mma::row_of(lane, j);
      const int column = first + i * kTile + mma::column_of(lane, j);
      if (row >= count || column >= rows.dim) continue;
      body(tiles[i].numbers + j, rows.row(row) + column, min(2, rows.dim - column));
    }
  }
}

/// Tiles of 16 rows to global memory: written, or added to what stands there.
template <bool kAdd, int kTiles, class T>
__device__ void write_rows(const HeadRows<T>& rows, std::int64_t count,
                           Accumulator (&tiles)[kTiles], float factor, int first = 0) {
  for_each_pair(tiles, rows, count, first, [&](const float* pair, T* to, int numbers) {
    if (rows.vectors) {
      float result[2] = {};
      if constexpr (kAdd) load(result, to);
#pragma unroll
      for (int i = 0; i < 2; ++i) result[i] += factor * pair[i];
      store(to, result);
      return;
    }
    for (int i = 0; i < numbers; ++i) {
      const float old = kAdd ? to_float(to[i]) : 0.0f;
      to[i] = from_float<T>(old + factor * pair[i]);
    }
  });
}

}  // namespace longscan::attention

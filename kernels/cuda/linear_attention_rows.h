// How a block of the GPU kernels of linear attention takes rows from memory and puts them back.
#pragma once

#include "kernels/cuda/linear_attention_block.h"

namespace longscan::gpu_attention {

/// Begins to copy rows [begin, begin + count) to an input, zeros behind and beside them.
template <class T, int kDim>
__device__ void fetch_rows(const Block<T, kDim>& block, int input, const Rows<T>& from,
                           std::int64_t head, std::int64_t begin, int count) {
  using S = Sizes<T, kDim>;
  T* to = block.inputs[input];
  if (!from.vectors) {
    for (int i = block.thread(); i < S::kRows * kDim; i += S::kThreads) {
      const int row = i / kDim, column = i % kDim;
      const bool there = row < count && column < from.columns;
      to[row * S::kStride + column] =
          there ? from.row(begin + row, head)[column] : from_float<T>(0.0f);
    }
    return;
  }
  constexpr int kPerRow = kDim / kVector<T>;
  for (int i = block.thread(); i < S::kRows * kPerRow; i += S::kThreads) {
    const int row = i / kPerRow, column = i % kPerRow * kVector<T>;
    const bool there = row < count && column < from.columns;
    __pipeline_memcpy_async(to + row * S::kStride + column,
                            there ? from.row(begin + row, head) + column : from.data, kVectorBytes,
                            there ? 0 : kVectorBytes);
  }
}

/// Begins to copy a tile of the projection.
template <class T, int kDim>
__device__ void fetch_projection(const Block<T, kDim>& block, int tile) {
  using S = Sizes<T, kDim>;
  const Map& map = block.map;
  const T* projection = static_cast<const T*>(map.projection);
  constexpr int kPerRow = kDim / kVector<T>;
  for (int i = block.thread(); i < S::kFeatures * kPerRow; i += S::kThreads) {
    const int feature = tile * S::kFeatures + i / kPerRow, column = i % kPerRow * kVector<T>;
    const bool negated = feature >= map.projections;
    const T* from =
        projection +
        static_cast<std::int64_t>(negated ? feature - map.projections : feature) * map.dim + column;
    T* to = block.projection_of(tile) + i / kPerRow * S::kStride + column;
    if (map.vectors && !negated && column < map.dim) {
      __pipeline_memcpy_async(to, from, kVectorBytes);
      continue;
    }
    for (int j = 0; j < kVector<T>; ++j) {
      const float number =
          feature < map.features && column + j < map.dim ? to_float(from[j]) : 0.0f;
      to[j] = from_float<T>(negated ? -number : number);
    }
  }
}

__device__ inline void finish_fetches() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

/// The tile's projection, there for all; nothing is left to do where all of it is.
template <class T, int kDim>
__device__ void take_projection(const Block<T, kDim>& block, int tile) {
  if (!block.map.projected() || block.map.resident) return;
  fetch_projection(block, tile);
  finish_fetches();
  __syncthreads();
}

/// Takes the projection where all of it stays.
template <class T, int kDim>
__device__ void take_resident_projection(const Block<T, kDim>& block) {
  if (!block.map.resident) return;
  for (int tile = 0; tile < block.tiles(); ++tile) fetch_projection(block, tile);
  finish_fetches();
  __syncthreads();
}

/// Writes the warp's rows of an input that lie in [first, last) of the chunk back to memory.
template <class T, int kDim>
__device__ void put_rows(const Block<T, kDim>& block, int input, const Rows<T>& to,
                         std::int64_t head, std::int64_t begin, int first, int last) {
  using S = Sizes<T, kDim>;
  const T* from = block.own(input);
  const int base = block.warp * mma::kTile;
  __syncwarp();
  if (!to.vectors) {
    for (int i = block.lane; i < mma::kTile * kDim; i += 32) {
      const int row = base + i / kDim, column = i % kDim;
      if (row < first || row >= last || column >= to.columns) continue;
      to.row(begin + row, head)[column] = from[i / kDim * S::kStride + column];
    }
    return;
  }
  constexpr int kPerRow = kDim / kVector<T>;
  for (int i = block.lane; i < mma::kTile * kPerRow; i += 32) {
    const int row = base + i / kPerRow, column = i % kPerRow * kVector<T>;
    if (row < first || row >= last || column >= to.columns) continue;
    using Vector = Pack<T, kVector<T>>;
    *reinterpret_cast<Vector*>(to.row(begin + row, head) + column) =
        *reinterpret_cast<const Vector*>(from + i / kPerRow * S::kStride + column);
  }
}

/// Puts a tile of numbers in the warp's rows [first, last) of an input, from `column` on.
template <class T, int kDim>
__device__ void stage(const Block<T, kDim>& block, int input, int column,
                      const mma::Accumulator& tile, int first, int last) {
  T* to = block.own(input) + column;
#pragma unroll
  for (int i = 0; i < mma::kLane; i += 2) {
    if (block.row(i) < first || block.row(i) >= last) continue;
    T* at =
        to + mma::row_of(block.lane, i) * Sizes<T, kDim>::kStride + mma::column_of(block.lane, i);
    store<2>(at, {tile[i], tile[i + 1]});
  }
}

}  // namespace longscan::gpu_attention

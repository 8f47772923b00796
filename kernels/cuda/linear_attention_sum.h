// How a block of the GPU kernels of linear attention sums up a run of tokens: keys with their
// values, or queries with what their outputs hand back.
#pragma once

#include "kernels/cuda/linear_attention_rows.h"
#include "kernels/cuda/linear_attention_state.h"

namespace longscan::gpu_attention {

/// Over the warp's rows of a chunk, -(d_out . out) goes to block.weights, with d_out the input.
template <class T, int kDim>
__device__ void find_weights(const Block<T, kDim>& block, const Call<T>& call, int input,
                             std::int64_t head, std::int64_t begin, int count) {
  using S = Sizes<T, kDim>;
  constexpr int kLanes = 8;  // that share a row
  for (int pass = 0; pass < mma::kTile * kLanes / 32; ++pass) {
    const int row = block.warp * mma::kTile + pass * 32 / kLanes + block.lane / kLanes;
    const T* d_out = block.inputs[input] + row * S::kStride;
    const T* out = row < count ? call.out.row(begin + row, head) : nullptr;
    float dot = 0;
    const auto add = [&]<int kCount>() {
      for (int d = block.lane % kLanes * kCount; d < call.value_dim; d += kLanes * kCount) {
        float left[kCount], right[kCount];
        load(left, d_out + d);
        load(right, out + d);
#pragma unroll
        for (int i = 0; i < kCount; ++i) dot += left[i] * right[i];
      }
    };
    if (out != nullptr) {
      call.out.vectors ? add.template operator()<kVector<T>>() : add.template operator()<1>();
    }
#pragma unroll
    for (int bits = 1; bits < kLanes; bits *= 2) dot += __shfl_xor_sync(0xffffffffu, dot, bits);
    if (block.lane % kLanes == 0) block.weights[row] = -dot;
  }
  __syncwarp();
}

/// What the features of the lane's queries are multiplied by, 1 / normaliser, or, of exponential
/// maps, what their exponents lose, its logarithm. Queries outside of `present` have no features.
template <class T, int kDim>
__device__ RowPair query_rows(const Block<T, kDim>& block, const Call<T>& call, std::int64_t head,
                              std::int64_t begin, RowSet present) {
  const bool exponential = block.map.exponential();
  RowPair rows;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = block.row(2 * half);
    rows.at[half] = exponential ? kInfinity : 0.0f;
    if ((present >> row & 1) == 0) continue;
    const float normalizer = *call.normalizer.row(begin + row, head);
    rows.at[half] = exponential || normalizer == 0 ? normalizer : 1 / normalizer;
  }
  return rows;
}

/// A tile of the state takes the chunk in: rows of the input 0 with those of the input 1.
template <class T, int kDim, bool kGradients>
__device__ void add_tile(const Block<T, kDim>& block, int tile, const RowPair& rows) {
  using S = Sizes<T, kDim>;
  take_projection(block, tile);
  mma::Accumulator phi[S::kFeatureTiles];
  project(block, 0, tile, phi);
  if (block.map.exponential()) {
    to_exponents(block, tile, rows, phi);
    leave_highest(block, -1, phi);
    __syncthreads();
    for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
      const int f = tile * S::kFeatures + column;
      block.highest[f] = fmaxf(block.exponent[f], highest_of_chunk(block, column));
      block.sent_reference[column] = reference_of(block.highest[f]);
    }
    __syncthreads();
    raise_state(block, tile, block.highest);
    to_features(block, tile, RowPair{}, block.sent_reference, phi);
  } else {
    to_features(block, tile, rows, nullptr, phi);
  }
  put_features(block, phi);
  __syncthreads();
  add_to_state<T, kDim, kGradients>(block, tile, 1, ~RowSet{0}, false);
  __syncthreads();
}

/// The state += the tokens of a range, which belong to one document.
template <class T, int kDim, bool kGradients>
__device__ void add_range(const Block<T, kDim>& block, const Call<T>& call, std::int64_t head,
                          Range range) {
  using S = Sizes<T, kDim>;
  for (std::int64_t begin = range.begin; begin < range.end; begin += S::kRows) {
    const std::int64_t left = range.end - begin;
    const int count = left < S::kRows ? static_cast<int>(left) : S::kRows;
    fetch_rows(block, 0, kGradients ? call.query : call.key, head, begin, count);
    fetch_rows(block, 1, kGradients ? call.d_out : call.value, head, begin, count);
    finish_fetches();
    __syncthreads();
    RowPair rows;
    if constexpr (kGradients) {
      find_weights(block, call, 1, head, begin, count);
      rows = query_rows(block, call, head, begin, rows_below(count));
    } else {
      rows = key_rows(block, 0, find_attended(call, begin, count, block.lane));
    }
    for (int tile = 0; tile < block.tiles(); ++tile) {
      add_tile<T, kDim, kGradients>(block, tile, rows);
    }
  }
}

}  // namespace longscan::gpu_attention

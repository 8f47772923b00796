// The state of a block of the GPU kernels of linear attention: sums over tokens of phi c^T, in f32
// in shared memory, and products with it.
#pragma once

#include "kernels/cuda/linear_attention_features.h"

namespace longscan::gpu_attention {

template <class T, int kDim>
__device__ void clear_state(const Block<T, kDim>& block) {
  using S = Sizes<T, kDim>;
  const int features = block.tiles() * S::kFeatures;
  for (int i = block.thread(); i < features * S::kStateStride; i += S::kThreads) block.sum[i] = 0;
  for (int f = block.thread(); f < features; f += S::kThreads) {
    block.normalizer[f] = 0;
    if (block.map.exponential()) block.exponent[f] = kNone;
  }
}

/// From the layout of the operations, [features, columns].
template <class T, int kDim>
__device__ void load_state(const Block<T, kDim>& block, const float* packed, int value_dim) {
  using S = Sizes<T, kDim>;
  const bool exponential = block.map.exponential();
  const int columns = value_dim + (exponential ? 2 : 1);
  for (int f = block.warp; f < block.tiles() * S::kFeatures; f += S::kWarps) {
    const bool there = f < block.map.features;
    const float* row = packed + static_cast<std::int64_t>(f) * columns;
    for (int d = block.lane; d < S::kStateStride; d += 32) {
      block.sum[f * S::kStateStride + d] = there && d < value_dim ? row[d] : 0.0f;
    }
    if (block.lane != 0) continue;
    block.normalizer[f] = there ? row[value_dim] : 0.0f;
    if (exponential) block.exponent[f] = there ? row[value_dim + 1] : kNone;
  }
}

/// To the layout of the operations.
template <class T, int kDim>
__device__ void store_state(const Block<T, kDim>& block, float* packed, int value_dim) {
  using S = Sizes<T, kDim>;
  const bool exponential = block.map.exponential();
  const int columns = value_dim + (exponential ? 2 : 1);
  for (int f = block.warp; f < block.map.features; f += S::kWarps) {
    float* row = packed + static_cast<std::int64_t>(f) * columns;
    for (int d = block.lane; d < value_dim; d += 32) row[d] = block.sum[f * S::kStateStride + d];
    if (block.lane != 0) continue;
    row[value_dim] = block.normalizer[f];
    if (exponential) row[value_dim + 1] = block.exponent[f];
  }
}

/// The block's state += another in the layout of the operations.
template <class T, int kDim>
__device__ void join_state(const Block<T, kDim>& block, const float* packed, int value_dim) {
  using S = Sizes<T, kDim>;
  const bool exponential = block.map.exponential();
  const int columns = value_dim + (exponential ? 2 : 1);
  for (int f = block.warp; f < block.map.features; f += S::kWarps) {
    const float* row = packed + static_cast<std::int64_t>(f) * columns;
    float keep = 1, take = 1, highest = 0;
    if (exponential) {
      const float mine = block.exponent[f], theirs = row[value_dim + 1];
      highest = fmaxf(mine, theirs);
      keep = expf(mine - reference_of(highest));
      take = expf(theirs - reference_of(highest));
    }
    for (int d = block.lane; d < value_dim; d += 32) {
      float& sum = block.sum[f * S::kStateStride + d];
      sum = sum * keep + row[d] * take;
    }
    __syncwarp();  // the exponent has been read by all lanes
    if (block.lane != 0) continue;
    block.normalizer[f] = block.normalizer[f] * keep + row[value_dim] * take;
    if (exponential) block.exponent[f] = highest;
  }
}

/// A tile of the state comes to the exponents `higher` [features]. In between, barriers.
template <class T, int kDim>
__device__ void raise_state(const Block<T, kDim>& block, int tile, const float* higher) {
  using S = Sizes<T, kDim>;
  const int first = tile * S::kFeatures;
  for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
    const int f = first + column;
    const float ratio = expf(block.exponent[f] - reference_of(higher[f]));
    block.ratio[column] = ratio;
    block.normalizer[f] *= ratio;
    block.exponent[f] = higher[f];
  }
  __syncthreads();
  for (int column = block.warp; column < S::kFeatures; column += S::kWarps) {
    const float ratio = block.ratio[column];
    if (ratio == 1.0f) continue;
    float* row = block.sum + (first + column) * S::kStateStride;
    for (int d = block.lane; d < kDim; d += 32) row[d] *= ratio;
  }
}

/// Zeros in the columns of a tile outside of `columns`, whose lowest bit is the first.
template <class T>
__device__ mma::Fragment<T> keep_columns(const mma::Fragment<T>& tile, RowSet columns, int lane) {
  mma::Fragment<float> numbers = widened(tile);
#pragma unroll
  for (int i = 0; i < mma::kLane; ++i) {
    if ((columns >> mma::column_of(lane, i) & 1) == 0) numbers[i] = 0;
  }
  return mma::rounded<T>(numbers);
}

/// A tile of the state += phi^T c over the chunk's rows in `kept`, with phi in block.phi and c an
/// input; the normaliser's column += phi^T weights. Where `fresh`, the state before is forgotten.
template <class T, int kDim, bool kWeighted>
__device__ void add_to_state(const Block<T, kDim>& block, int tile, int input, RowSet kept,
                             bool fresh) {
  using S = Sizes<T, kDim>;
  // Where a tile has fewer rows than there are warps, several share a row's columns.
  constexpr int kGroups = S::kWarps > S::kFeatureTiles ? S::kWarps / S::kFeatureTiles : 1;
  constexpr int kColumnTiles = S::kDimTiles / kGroups;
  const int group = block.warp / S::kFeatureTiles;
  const int first_column = (kGroups == 1 ? 0 : group) * kColumnTiles * mma::kTile;
  for (int m = block.warp % S::kFeatureTiles; m < S::kFeatureTiles; m += S::kWarps) {
    const int first = tile * S::kFeatures + m * mma::kTile;
    float* home = block.sum + first * S::kStateStride + first_column;
    // Tensor cores cut off what they add: over a long line that would all go one way. So they add
    // up the chunk alone.
    mma::Accumulator sums[kColumnTiles];
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) sums[n].clear();
    RowPair total{};
#pragma unroll 2
    for (int k = 0; k < S::kRowTiles; ++k) {
      mma::Fragment<T> left;
      mma::load_transposed(left, block.phi + k * mma::kTile * S::kPhiStride + m * mma::kTile,
                           S::kPhiStride, block.lane);
      const RowSet columns = kept >> (k * mma::kTile);
      if (~columns & 0xffff) left = keep_columns(left, columns, block.lane);
      const mma::Fragment<float> numbers = widened(left);
#pragma unroll
      for (int i = 0; i < mma::kLane; ++i) {
        const int row = k * mma::kTile + mma::column_of(block.lane, i);
        total.at[i / 2 % 2] += kWeighted ? numbers[i] * block.weights[row] : numbers[i];
      }
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        mma::Fragment<T> right;
        mma::load_transposed(
            right,
            block.inputs[input] + k * mma::kTile * S::kStride + first_column + n * mma::kTile,
            S::kStride, block.lane);
        mma::multiply(sums[n], left, right);
      }
    }
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
      float* to = home + n * mma::kTile;
      mma::Accumulator before;
      fresh ? before.clear() : mma::load(before, to, S::kStateStride, block.lane);
#pragma unroll
      for (int i = 0; i < mma::kLane; ++i) sums[n][i] += before[i];
      mma::store(to, S::kStateStride, sums[n], block.lane);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = sum_over_row(total.at[half]);
      if (block.lane % 4 != 0 || first_column != 0) continue;
      float& normalizer = block.normalizer[first + mma::row_of(block.lane, 2 * half)];
      normalizer = fresh ? sum : normalizer + sum;
    }
  }
}

/// sum += left state^T. Beside bf16 the state is cut to 11 bits; so is its normaliser's column then
/// (`normalizer_of`), that what is cut off be the same share of both.
template <class T>
__device__ void multiply_by_state(mma::Accumulator& sum, const mma::Fragment<T>& left,
                                  const mma::Fragment<float>& state) {
  if constexpr (std::is_same_v<T, float>) {
    mma::multiply(sum, left, state);
  } else {
    mma::multiply_cut(sum, widened(left), state);
  }
}
template <class T, int kDim>
__device__ float normalizer_of(const Block<T, kDim>& block, int feature) {
  const float number = block.normalizer[feature];
  return std::is_same_v<T, float> ? number : mma::cut(number);
}

/// values += phi S of a tile.
template <class T, int kDim>
__device__ void add_values_of_state(const Block<T, kDim>& block, int tile,
                                    const mma::Fragment<T> (&phi)[Sizes<T, kDim>::kFeatureTiles],
                                    mma::Accumulator (&values)[Sizes<T, kDim>::kDimTiles]) {
  using S = Sizes<T, kDim>;
  const float* home = block.sum + tile * S::kFeatures * S::kStateStride;
#pragma unroll
  for (int n = 0; n < S::kDimTiles; ++n) {
#pragma unroll
    for (int k = 0; k < S::kFeatureTiles; ++k) {
      mma::Fragment<float> state;
      mma::load_transposed(state, home + k * mma::kTile * S::kStateStride + n * mma::kTile,
                           S::kStateStride, block.lane);
      multiply_by_state(values[n], phi[k], state);
    }
  }
}

/// features += c S^T of a tile, c the warp's rows of an input. Where `kExact`, 16
/// bits of the state are kept beside bf16: for differences of large sums.
template <class T, int kDim, bool kExact>
__device__ void add_features_of_state(const Block<T, kDim>& block, int tile, int input,
                                      mma::Accumulator (&features)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  const float* home = block.sum + tile * S::kFeatures * S::kStateStride;
#pragma unroll 2
  for (int k = 0; k < S::kDimTiles; ++k) {
    mma::Fragment<T> left;
    mma::load(left, block.own(input) + k * mma::kTile, S::kStride, block.lane);
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::Fragment<float> state;
      mma::load(state, home + n * mma::kTile * S::kStateStride + k * mma::kTile, S::kStateStride,
                block.lane);
      if constexpr (kExact) {
        mma::multiply(features[n], left, mma::Precise<T>(state));
      } else {
        multiply_by_state(features[n], left, state);
      }
    }
  }
}

/// total += phi times the normaliser's column of a tile, over a lane's numbers.
template <class T, int kDim>
__device__ void add_normalizer(const Block<T, kDim>& block, int tile,
                               const mma::Fragment<T> (&phi)[Sizes<T, kDim>::kFeatureTiles],
                               RowPair& total) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) {
    const mma::Fragment<float> numbers = widened(phi[n]);
    const int first = tile * S::kFeatures + n * mma::kTile;
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      total.at[i / 2 % 2] +=
          numbers[i] * normalizer_of(block, first + mma::column_of(block.lane, i));
    }
  }
}

/// Puts the warp's rows of a tile of features where all can read them, rounded.
template <class T, int kDim>
__device__ void put_features(const Block<T, kDim>& block,
                             const mma::Accumulator (&phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) {
    mma::store(block.phi + block.warp * mma::kTile * S::kPhiStride + n * mma::kTile, S::kPhiStride,
               phi[n], block.lane);
  }
}

}  // namespace longscan::gpu_attention

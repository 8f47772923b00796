// The feature maps on the GPU: tiles of products into tiles of features, and gradients back.
#pragma once

#include "kernels/cuda/linear_attention_walk.h"

namespace longscan::gpu_attention {

/// Where the exponent of elu1 ends: products of two such features are still far above the smallest
/// fp32 number.
constexpr float kLowestExponent = -41.0f;
/// What relu and favor_relu add, so that no token goes without any feature.
constexpr float kLeastFeature = 1e-3f;
/// How far a feature's exponent may rise within a chunk beyond what the chunk's first key has seen:
/// normalisers of e^-40 and gradients of e^40 are well within fp32.
constexpr float kHighestRise = 40.0f;

/// `exponent`, or 0 where there is none: what may be subtracted from any exponent.
__device__ inline float reference_of(float exponent) {
  return exponent == kNone ? 0.0f : exponent;
}

/// The sum over the four lanes that share a row, or the largest.
__device__ inline float sum_over_row(float number) {
  number += __shfl_xor_sync(0xffffffffu, number, 1);
  return number + __shfl_xor_sync(0xffffffffu, number, 2);
}
__device__ inline float largest_of_row(float number) {
  number = fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 1));
  return fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 2));
}
/// The largest over the eight lanes that share a column.
__device__ inline float largest_of_column(float number) {
  number = fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 4));
  number = fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 8));
  return fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 16));
}

__device__ inline mma::Fragment<float> widened(const mma::Fragment<float>& tile) {
  return tile;
}
__device__ inline mma::Fragment<float> widened(const mma::Fragment<__nv_bfloat16>& tile) {
  mma::Fragment<float> result;
#pragma unroll
  for (int i = 0; i < mma::kLane / 2; ++i) {
    result[2 * i] = mma::first_of(tile.pairs[i]);
    result[2 * i + 1] = mma::second_of(tile.pairs[i]);
  }
  return result;
}

/// Two numbers that belong to a lane's two rows.
struct RowPair {
  float at[2];
  /// That of the row of a tile's number.
  __device__ float of(int index) const { return at[index / 2 % 2]; }
};

/// number = function(number, index, column) for all numbers of a row of tiles.
template <int kTiles, class Function>
__device__ void for_numbers(mma::Accumulator (&tiles)[kTiles], int lane, Function&& function) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      tiles[n][i] = function(tiles[n][i], i, n * mma::kTile + mma::column_of(lane, i));
    }
  }
}

/// What the map applies to: W x of the warp's rows of an input, or x where there is no projection.
template <class T, int kDim>
__device__ void project(const Block<T, kDim>& block, int input, int tile,
                        mma::Accumulator (&products)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  const T* rows = block.own(input);
  mma::Fragment<T> x;
  if (!block.map.projected()) {
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::load(x, rows + tile * S::kFeatures + n * mma::kTile, S::kStride, block.lane);
      products[n] = widened(x);
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) products[n].clear();
#pragma unroll 2
  for (int k = 0; k < S::kDimTiles; ++k) {
    mma::load(x, rows + k * mma::kTile, S::kStride, block.lane);
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::Fragment<T> w;
      mma::load(w, block.projection_of(tile) + n * mma::kTile * S::kStride + k * mma::kTile,
                S::kStride, block.lane);
      mma::multiply(products[n], x, w);
    }
  }
  const float scale = block.map.scale;
  for_numbers(products, block.lane, [&](float x, int, int) { return x * scale; });
}

/// |x~|^2 / 2 of the lane's rows.
template <class T, int kDim>
__device__ RowPair half_squares(const Block<T, kDim>& block, int input) {
  using S = Sizes<T, kDim>;
  RowPair squares{};
#pragma unroll 2
  for (int k = 0; k < S::kDimTiles; ++k) {
    mma::Fragment<T> x;
    mma::load(x, block.own(input) + k * mma::kTile, S::kStride, block.lane);
    const mma::Fragment<float> numbers = widened(x);
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) squares.at[i / 2 % 2] += numbers[i] * numbers[i];
  }
#pragma unroll
  for (float& square : squares.at) {
    square = sum_over_row(square) * block.map.scale * block.map.scale / 2;
  }
  return squares;
}

/// What a key's features are multiplied by, 0 or 1; of exponential maps what its exponents lose,
/// infinity or |x~|^2 / 2. Keys outside of `present` have no features.
template <class T, int kDim>
__device__ RowPair key_rows(const Block<T, kDim>& block, int input, RowSet present) {
  const bool exponential = block.map.exponential();
  RowPair rows = exponential ? half_squares(block, input) : RowPair{{1, 1}};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool here = (present >> block.row(2 * half) & 1) != 0;
    if (!here) rows.at[half] = exponential ? kInfinity : 0.0f;
  }
  return rows;
}

/// e^x as exactly as features of the type are kept.
template <class T>
__device__ float exponential_of(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return expf(x);
  } else {
    return __expf(x);
  }
}

template <class T>
__device__ float elu1_of(float x) {
  // e^x itself: elu(x) + 1 would round to zero below -17. NaN stays NaN.
  return x > 0 ? x + 1 : exponential_of<T>(x < kLowestExponent ? kLowestExponent : x);
}
__device__ inline float relu_of(float x) {
  return (x < 0 ? 0.0f : x) + kLeastFeature;
}
template <class T>
__device__ float feature_of(FeatureKind kind, float x) {
  return kind == FeatureKind::elu1 ? elu1_of<T>(x) : relu_of(x);
}

/// Features of products, times the row's factor; of exponential maps e^(product - row -
/// reference), with a reference for every column. A row without features has the factor 0, or loses
/// infinity.
template <class T, int kDim>
__device__ void to_features(const Block<T, kDim>& block, int tile, const RowPair& rows,
                            const float* reference,
                            mma::Accumulator (&products)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  if (block.map.exponential()) {
    for_numbers(products, block.lane, [&](float x, int i, int column) {
      const float row = rows.of(i);
      return row == kInfinity ? 0.0f : exponential_of<T>(x - row - reference[column]);
    });
  } else {
    if (block.map.kind == FeatureKind::elu1) {
      for_numbers(products, block.lane, [](float x, int, int) { return elu1_of<T>(x); });
    } else {
      for_numbers(products, block.lane, [](float x, int, int) { return relu_of(x); });
    }
    if (__all_sync(0xffffffffu, rows.at[0] == 1 && rows.at[1] == 1) == 0) {
      for_numbers(products, block.lane,
                  [&](float x, int i, int) { return rows.of(i) == 0.0f ? 0.0f : x * rows.of(i); });
    }
  }
  const int left = block.map.features - tile * S::kFeatures;
  if (left >= S::kFeatures) return;
  for_numbers(products, block.lane,
              [&](float x, int, int column) { return column < left ? x : 0.0f; });
}

/// Exponents from products; -infinity where there is no feature.
template <class T, int kDim>
__device__ void to_exponents(const Block<T, kDim>& block, int tile, const RowPair& rows,
                             mma::Accumulator (&products)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  const int left = block.map.features - tile * S::kFeatures;
  for_numbers(products, block.lane, [&](float x, int i, int column) {
    return column < left && rows.of(i) != kInfinity ? x - rows.of(i) : kNone;
  });
}

/// Leaves the largest exponent of every column over the warp's rows for `highest_of_chunk`, and
/// those of the row `first` for all to see.
template <class T, int kDim>
__device__ void leave_highest(const Block<T, kDim>& block, int first,
                              const mma::Accumulator (&exponents)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) {
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      const int column = n * mma::kTile + mma::column_of(block.lane, i);
      if (block.row(i) == first) block.first[column] = exponents[n][i];
      if (i / 2 % 2 != 0) continue;
      const float largest = largest_of_column(fmaxf(exponents[n][i], exponents[n][i + 2]));
      if (block.lane < 4) block.warp_highest[block.warp * S::kFeatures + column] = largest;
    }
  }
}
template <class T, int kDim>
__device__ float highest_of_chunk(const Block<T, kDim>& block, int column) {
  using S = Sizes<T, kDim>;
  float largest = kNone;
  for (int warp = 0; warp < S::kWarps; ++warp) {
    largest = fmaxf(largest, block.warp_highest[warp * S::kFeatures + column]);
  }
  return largest;
}

/// Replaces the gradient of features by that of the products, adding up d_phi * phi over each row
/// for exponential maps (without the other lanes of the row).
template <class T, int kDim>
__device__ void differentiate(const Block<T, kDim>& block,
                              mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles],
                              const mma::Accumulator (&phi)[Sizes<T, kDim>::kFeatureTiles],
                              RowPair& total) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) {
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      float& d = d_phi[n][i];
      const float feature = phi[n][i];
      if (block.map.exponential()) {
        d *= feature;
        total.at[i / 2 % 2] += d;
      } else if (block.map.kind == FeatureKind::elu1) {
        d *= feature < 1 ? feature : 1.0f;
      } else {
        d = feature > kLeastFeature ? d : 0.0f;
      }
    }
  }
}

/// d_x += d_products W of a tile, without the scale.
template <class T, int kDim>
__device__ void project_back(const Block<T, kDim>& block, int tile,
                             const mma::Accumulator (&d_products)[Sizes<T, kDim>::kFeatureTiles],
                             mma::Accumulator (&d_x)[Sizes<T, kDim>::kDimTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (int k = 0; k < S::kFeatureTiles; ++k) {
    const mma::Fragment<T> left = mma::rounded<T>(d_products[k]);
#pragma unroll
    for (int n = 0; n < S::kDimTiles; ++n) {
      mma::Fragment<T> w;
      mma::load_transposed(w,
                           block.projection_of(tile) + k * mma::kTile * S::kStride + n * mma::kTile,
                           S::kStride, block.lane);
      mma::multiply(d_x[n], left, w);
    }
  }
}

}  // namespace longscan::gpu_attention

// Softmaxes that take their scores tile after tile (Milakov and Gimelshein 2018, "Online normalizer
// calculation for softmax"), and what they weigh.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_tiles.h"

namespace longscan::attention {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

/// The four lanes that hold a row together.
__device__ inline float largest_in_row(float number) {
  number = fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 1));
  return fmaxf(number, __shfl_xor_sync(0xffffffffu, number, 2));
}
__device__ inline float sum_in_row(float number) {
  number += __shfl_xor_sync(0xffffffffu, number, 1);
  return number + __shfl_xor_sync(0xffffffffu, number, 2);
}

/// Softmaxes of 16 rows, tile after tile: a row's denominator so far is e^maximum times `sum`, of
/// which each lane holds a part. In powers of two.
struct OnlineSoftmax {
  float maximum[2];
  float sum[2];

  /// For what a row has got before, with `log_sum` the logarithm of its denominator.
  __device__ void begin(int half, float log_sum) {
    const bool nothing = log_sum == -INFINITY;
    maximum[half] = log_sum * kLog2E;
    sum[half] = nothing || lane_of_thread() % 4 != 0 ? 0.0f : 1.0f;
  }
  __device__ float log_sum(int half, float total) const {
    return maximum[half] * kLn2 + logf(total);
  }

  /// Scores, times `scale`, become weights relative to the new maximum; `ratios` are what earlier
  /// ones are to be multiplied by. Scores of -infinity weigh nothing.
  template <int kTiles>
  __device__ void take_in(Accumulator (&scores)[kTiles], float scale, float (&ratios)[2]) {
    float largest[2] = {maximum[0], maximum[1]};
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < mma::kLane; ++j) {
        largest[half_of(j)] = fmaxf(largest[half_of(j)], scores[i][j] * scale);
      }
    }
    float subtracted[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      largest[half] = largest_in_row(largest[half]);
      subtracted[half] = largest[half] == -INFINITY ? 0.0f : largest[half];
      ratios[half] = exp2f(maximum[half] - subtracted[half]);
      maximum[half] = largest[half];
      sum[half] *= ratios[half];
    }
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < mma::kLane; ++j) {
        float& score = scores[i][j];
        score = exp2f(fmaf(score, scale, -subtracted[half_of(j)]));
        sum[half_of(j)] += score;
      }
    }
  }
};

/// What the 16 rows of a warp have got so far: out times the denominator.
template <class T, int kDim>
struct AttendingRows {
  Accumulator sums[kDim / kTile];
  OnlineSoftmax softmax;

  __device__ void begin() {
    clear(sums);
    softmax.begin(0, -INFINITY);
    softmax.begin(1, -INFINITY);
  }
  /// With what the first `count` rows of `out` have got of others, where `log_sums`, `heads` apart,
  /// are not -infinity.
  __device__ void begin_with(const HeadRows<T>& out, const float* log_sums, std::int64_t heads,
                             std::int64_t count) {
    bool has_some[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane_of_thread() / 4 + 8 * half;
      const float log_sum = row < count ? log_sums[row * heads] : -INFINITY;
      softmax.begin(half, log_sum);
      has_some[half] = log_sum != -INFINITY;
    }
    clear(sums);
    if (!has_some[0] && !has_some[1]) return;
    for_each_number(sums, [&](float& number, int half, int row, int column) {
      if (column < out.dim && has_some[half]) number = to_float(out.row(row)[column]);
    });
  }

  /// `values`: as many rows in shared memory as there are scores in a row.
  template <int kTiles, class Stored>
  __device__ void take_in(Accumulator (&scores)[kTiles], const Stored* values, float scale) {
    float ratios[2];
    softmax.take_in(scores, scale * kLog2E, ratios);
    multiply_by(ratios);
    add_weighted<T, kDim>(sums, scores, values);
  }

  __device__ void store(const HeadRows<T>& out, float* log_sums, std::int64_t heads,
                        std::int64_t count) {
    __syncwarp();  // all lanes of a row have read the log_sum that one of them writes
    float factors[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane_of_thread() / 4 + 8 * half;
      const float total = sum_in_row(softmax.sum[half]);
      factors[half] = total == 0 ? 0 : 1 / total;
      if (row < count && lane_of_thread() % 4 == 0) {
        log_sums[row * heads] = softmax.log_sum(half, total);
      }
    }
    multiply_by(factors);
    write_rows<false>(out, count, sums, 1);
  }

 private:
  __device__ void multiply_by(const float (&factors)[2]) {
#pragma unroll
    for (Accumulator& tile : sums) {
#pragma unroll
      for (int j = 0; j < mma::kLane; ++j) tile[j] *= factors[half_of(j)];
    }
  }
};

/// Of a query: the logarithm of its softmax's denominator, in powers of two, and d_out . out.
struct QueryNumbers {
  float log_sum;
  float d_out_dot;

  static __device__ QueryNumbers of(float natural_log_sum, float dot) {
    return {natural_log_sum == -INFINITY ? 0.0f : natural_log_sum * kLog2E, dot};
  }

  /// A score becomes the softmax p, and d_out . v becomes p (d_out . v - d_out_dot).
  __device__ void differentiate(float& score, float& slope, float scale) const {
    score = exp2f(fmaf(score, scale * kLog2E, -log_sum));
    slope = score * (slope - d_out_dot);
  }
};

/// Score and slope of two that do not see each other, whatever stands there.
__device__ inline void hide(float& score, float& slope) {
  score = 0;
  slope = 0;
}

/// Sums of large heads do not fit into registers for all dimensions and two gradients at once.
template <int kDim>
constexpr int kSumDim = kDim > 128 ? 128 : kDim;

}  // namespace longscan::attention

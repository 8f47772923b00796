// LayerNorm and RMSNorm on the CPU: a row stays in the first-level cache for all its sweeps.
#include "kernels/normalization.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"

namespace longscan {

namespace {

// Partial sums of d_weight and d_bias are kept for at most this many blocks of rows.
constexpr std::int64_t kMostPartials = 256;

template <class T>
T mean_of(const T* in, std::int64_t width) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < width; ++i) sum += in[i];
  return sum / static_cast<T>(width);
}

template <class T>
struct Moments {
  T mean;
  T rstd;
};

// The mean of a long row carries the roundings of large partial sums; what the deviations from it
// add up to takes them off again (the corrected two-pass algorithm, Chan et al. 1983, eq. 1.7).
template <class T>
Moments<T> moments_of(const T* in, bool centred, double epsilon, std::int64_t width) {
  const T mean = centred ? mean_of(in, width) : T{0};
  T sum = 0;
  T squares = 0;
#pragma omp simd reduction(+ : sum, squares)
  for (std::int64_t i = 0; i < width; ++i) {
    const T deviation = in[i] - mean;
    sum += deviation;
    squares += deviation * deviation;
  }
  const T correction = centred ? sum / static_cast<T>(width) : T{0};
  const T variance = squares / static_cast<T>(width) - correction * correction;
  return {mean + correction, T{1} / std::sqrt(variance + static_cast<T>(epsilon))};
}

template <class T>
void normalize_row(T* out, const T* in, T mean, T rstd, const T* weight, const T* bias,
                   std::int64_t width) {
  if (bias == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) out[i] = in[i] * rstd * weight[i];
    return;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) out[i] = (in[i] - mean) * rstd * weight[i] + bias[i];
}

template <class T>
struct Row {
  T* d_in;
  const T* d_out;
  const T* in;
  const T* weight;
  T mean;
  T rstd;
  std::int64_t width;
};

// First sweep: the row's share of d_weight and d_bias, and the sums that couple its elements.
// Second sweep, with x = (in - mean) rstd and g = d_out weight:
// d_in += rstd (g - mean(g) - x mean(g x)), where RMSNorm has no mean(g).
template <bool kCentred, class T>
void backward_row(const Row<T>& row, T* d_weight, T* d_bias) {
  const auto [d_in, d_out, in, weight, mean, rstd, width] = row;
  T sum_g = 0;
  T sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
  for (std::int64_t i = 0; i < width; ++i) {
    const T x = (in[i] - mean) * rstd;
    const T g = d_out[i] * weight[i];
    d_weight[i] += d_out[i] * x;
    if constexpr (kCentred) d_bias[i] += d_out[i];
    sum_g += g;
    sum_gx += g * x;
  }
  const T mean_g = kCentred ? sum_g / static_cast<T>(width) : T{0};
  const T mean_gx = sum_gx / static_cast<T>(width);
#pragma omp simd
  for (std::int64_t i = 0; i < width; ++i) {
    const T x = (in[i] - mean) * rstd;
    d_in[i] += rstd * (d_out[i] * weight[i] - mean_g - x * mean_gx);
  }
}

// sums += the partial sums, in their order.
template <class T>
void fold(T* sums, const T* partials, std::int64_t blocks, std::int64_t stride,
          std::int64_t width) {
  for (std::int64_t block = 0; block < blocks; ++block) {
    const T* partial = partials + block * stride;
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) sums[i] += partial[i];
  }
}

template <bool kCentred, class T>
void normalize_backward(Cpu& cpu, const NormalizeBackward& operation) {
  const std::int64_t tokens = operation.in.shape[0];
  const std::int64_t width = operation.in.shape[1];
  const std::int64_t block =
      std::max(block_rows(width), (tokens + kMostPartials - 1) / kMostPartials);
  const std::int64_t blocks = (tokens + block - 1) / block;
  const std::int64_t stride = kCentred ? 2 * width : width;  // d_weight, then d_bias
  T* partials = cpu.shared_scratch<T>(blocks * stride);
  cpu.for_blocks(tokens, block, [&](std::int64_t begin, std::int64_t end, int) {
    T* d_weight = partials + begin / block * stride;
    std::fill(d_weight, d_weight + stride, T{0});
    for (std::int64_t token = begin; token < end; ++token) {
      const Row<T> row = {.d_in = operation.d_in.as<T>() + token * width,
                          .d_out = operation.d_out.as<T>() + token * width,
                          .in = operation.in.as<T>() + token * width,
                          .weight = operation.weight.as<T>(),
                          .mean = kCentred ? operation.mean.as<T>()[token] : T{0},
                          .rstd = operation.rstd.as<T>()[token],
                          .width = width};
      backward_row<kCentred>(row, d_weight, d_weight + width);
    }
  });
  fold(operation.d_weight.as<T>(), partials, blocks, stride, width);
  if constexpr (kCentred) fold(operation.d_bias.as<T>(), partials + width, blocks, stride, width);
}

}  // namespace

void execute(Cpu& cpu, const Normalize& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    const std::int64_t width = operation.in.shape[1];
    const bool centred = operation.bias.present();
    const auto normalize_rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t token = begin; token < end; ++token) {
        const T* in = operation.in.as<T>() + token * width;
        const auto [mean, rstd] = moments_of(in, centred, operation.epsilon, width);
        operation.rstd.as<T>()[token] = rstd;
        if (centred) operation.mean.as<T>()[token] = mean;
        normalize_row(operation.out.as<T>() + token * width, in, mean, rstd,
                      operation.weight.as<T>(), operation.bias.as<T>(), width);
      }
    };
    cpu.for_blocks(operation.in.shape[0], block_rows(width), normalize_rows);
  });
}

void execute(Cpu& cpu, const NormalizeBackward& operation) {
  for_float_type(operation.d_in.dtype, [&]<class T>() {
    if (operation.d_bias.present()) {
      normalize_backward<true, T>(cpu, operation);
    } else {
      normalize_backward<false, T>(cpu, operation);
    }
  });
}

}  // namespace longscan

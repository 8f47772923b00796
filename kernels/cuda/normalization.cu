// LayerNorm and RMSNorm on the GPU: a warp a row, which stays in the cache for all its sweeps.
#include "kernels/normalization.h"

#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

constexpr int kWarps = kBlockThreads / kWarp;
// Rows that a block goes through before it adds their share of d_weight and d_bias to its sums: few
// enough to be still in the first-level cache.
constexpr std::int64_t kTileRows = 16;
// Blocks that keep such sums: all that the largest GPUs hold at a time, and no function of the GPU,
// so that results are none either.
constexpr std::int64_t kMostPartials = 512;

__device__ int lane_number() {
  return static_cast<int>(threadIdx.x % kWarp);
}

// The mean, of which the deviations from it take its roundings off again, and rstd (the corrected
// two-pass algorithm, Chan et al. 1983, eq. 1.7). For all lanes of the warp.
struct Moments {
  float mean;
  float rstd;
};

template <bool kCentred, int kCount, class T>
__device__ Moments moments_of(const T* in, std::int64_t width, float epsilon) {
  const auto columns = static_cast<float>(width);
  float mean = 0;
  if constexpr (kCentred) {
    for (std::int64_t at = lane_number() * kCount; at < width; at += kWarp * kCount) {
      float x[kCount];
      load(x, in + at);
#pragma unroll
      for (int i = 0; i < kCount; ++i) mean += x[i];
    }
    mean = warp_sum(mean) / columns;
  }
  float sum = 0;
  float squares = 0;
  for (std::int64_t at = lane_number() * kCount; at < width; at += kWarp * kCount) {
    float x[kCount];
    load(x, in + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float deviation = x[i] - mean;
      sum += deviation;
      squares += deviation * deviation;
    }
  }
  const float correction = kCentred ? warp_sum(sum) / columns : 0.0f;
  const float variance = warp_sum(squares) / columns - correction * correction;
  return {mean + correction, 1.0f / sqrtf(variance + epsilon)};
}

template <bool kCentred, class T, int kCount>
__global__ void normalize(const __grid_constant__ Normalize operation) {
  const std::int64_t width = operation.in.shape[1];
  const std::int64_t row = thread_number() / kWarp;
  if (row >= operation.in.shape[0]) return;  // with its warp
  const T* in = data_of<const T>(operation.in) + row * width;
  T* out = data_of<T>(operation.out) + row * width;
  const auto* weight = data_of<const float>(operation.weight);
  const auto* bias = data_of<const float>(operation.bias);
  const auto [mean, rstd] =
      moments_of<kCentred, kCount>(in, width, static_cast<float>(operation.epsilon));
  if (lane_number() == 0) {
    data_of<float>(operation.rstd)[row] = rstd;
    if constexpr (kCentred) data_of<float>(operation.mean)[row] = mean;
  }
  for (std::int64_t at = lane_number() * kCount; at < width; at += kWarp * kCount) {
    float x[kCount];
    float w[kCount];
    load(x, in + at);
    load(w, weight + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = (x[i] - mean) * rstd * w[i];
    if constexpr (kCentred) {
      float b[kCount];
      load(b, bias + at);
#pragma unroll
      for (int i = 0; i < kCount; ++i) x[i] += b[i];
    }
    store(out + at, x);
  }
}

// A warp: d_in of one row. With x = (in - mean) rstd and g = d_out weight:
// d_in += rstd (g - mean(g) - x mean(g x)), where RMSNorm has no mean(g).
template <bool kCentred, int kCount, class T>
__device__ void add_input_gradient(const NormalizeBackward& operation, std::int64_t row) {
  const std::int64_t width = operation.in.shape[1];
  const T* in = data_of<const T>(operation.in) + row * width;
  const T* d_out = data_of<const T>(operation.d_out) + row * width;
  T* d_in = data_of<T>(operation.d_in) + row * width;
  const auto* weight = data_of<const float>(operation.weight);
  const float rstd = data_of<const float>(operation.rstd)[row];
  const float mean = kCentred ? data_of<const float>(operation.mean)[row] : 0.0f;
  float mean_g = 0;
  float mean_gx = 0;
  for (std::int64_t at = lane_number() * kCount; at < width; at += kWarp * kCount) {
    float x[kCount];
    float g[kCount];
    float w[kCount];
    load(x, in + at);
    load(g, d_out + at);
    load(w, weight + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      mean_g += g[i] * w[i];
      mean_gx += g[i] * w[i] * ((x[i] - mean) * rstd);
    }
  }
  mean_g = kCentred ? warp_sum(mean_g) / static_cast<float>(width) : 0.0f;
  mean_gx = warp_sum(mean_gx) / static_cast<float>(width);
  for (std::int64_t at = lane_number() * kCount; at < width; at += kWarp * kCount) {
    float x[kCount];
    float g[kCount];
    float w[kCount];
    float d[kCount];
    load(x, in + at);
    load(g, d_out + at);
    load(w, weight + at);
    load(d, d_in + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      d[i] += rstd * (g[i] * w[i] - mean_g - (x[i] - mean) * rstd * mean_gx);
    }
    store(d_in + at, d);
  }
}

// A block: the share of rows [begin, end) in d_weight and d_bias, a thread a column.
template <bool kCentred, class T>
__device__ void add_weight_gradient(const NormalizeBackward& operation, float* d_weight,
                                    std::int64_t begin, std::int64_t end) {
  const std::int64_t width = operation.in.shape[1];
  const auto* rstd = data_of<const float>(operation.rstd);
  const auto* mean = data_of<const float>(operation.mean);
  for (std::int64_t column = threadIdx.x; column < width; column += kBlockThreads) {
    float of_weight = 0;
    float of_bias = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      const float d = to_float(data_of<const T>(operation.d_out)[row * width + column]);
      const float x = to_float(data_of<const T>(operation.in)[row * width + column]);
      of_weight += d * ((x - (kCentred ? mean[row] : 0.0f)) * rstd[row]);
      of_bias += d;
    }
    d_weight[column] += of_weight;
    if constexpr (kCentred) d_weight[width + column] += of_bias;
  }
}

// Block b has the b-th run of `run` rows, and the b-th row of partials: d_weight, then d_bias.
template <bool kCentred, class T, int kCount>
__global__ void normalize_backward(float* partials, std::int64_t run,
                                   const __grid_constant__ NormalizeBackward operation) {
  const std::int64_t tokens = operation.in.shape[0];
  const std::int64_t width = operation.in.shape[1];
  const std::int64_t stride = kCentred ? 2 * width : width;
  const std::int64_t begin = blockIdx.x * run;
  const std::int64_t end = begin + run < tokens ? begin + run : tokens;
  float* d_weight = partials + blockIdx.x * stride;
  // A thread's columns are its own throughout.
  for (std::int64_t column = threadIdx.x; column < width; column += kBlockThreads) {
    d_weight[column] = 0;
    if constexpr (kCentred) d_weight[width + column] = 0;
  }
  for (std::int64_t tile = begin; tile < end; tile += kTileRows) {
    const std::int64_t behind = tile + kTileRows < end ? tile + kTileRows : end;
    for (std::int64_t row = tile + threadIdx.x / kWarp; row < behind; row += kWarps) {
      add_input_gradient<kCentred, kCount, T>(operation, row);
    }
    add_weight_gradient<kCentred, T>(operation, d_weight, tile, behind);
  }
}

// sums += the partial sums: a warp's lanes are columns, each of its block's warps adds up a run of
// partials, and the first adds up the runs.
__global__ void add_partials(float* sums, const float* partials, std::int64_t count,
                             std::int64_t stride, std::int64_t width) {
  SHARED(float, of_warps, [kWarps][kWarp]);
  const auto warp = static_cast<int>(threadIdx.x / kWarp);
  const int lane = lane_number();
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarp + lane;
  const std::int64_t run = pieces_of(count, kWarps);
  const std::int64_t begin = warp * run;
  const std::int64_t end = begin + run < count ? begin + run : count;
  float sum = 0;
  if (column < width) {
    for (std::int64_t i = begin; i < end; ++i) sum += partials[i * stride + column];
  }
  of_warps[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= width) return;
  for (int other = 1; other < kWarps; ++other) sum += of_warps[other][lane];
  sums[column] += sum;
}

template <bool kCentred>
void run_backward(Cuda& cuda, const NormalizeBackward& operation) {
  const auto& [d_in, d_weight, d_bias, d_out, in, weight, rstd, mean] = operation;
  const std::int64_t tokens = in.shape[0];
  const std::int64_t width = in.shape[1];
  const std::int64_t stride = kCentred ? 2 * width : width;
  const std::int64_t run = std::max<std::int64_t>(kWarps, pieces_of(tokens, kMostPartials));
  const std::int64_t blocks = pieces_of(tokens, run);
  auto* partials = cuda.scratch<float>(blocks * stride);
  for_gpu_type(in.dtype, [&]<class T>() {
    for_pack<T>(rows_in_vectors({d_in, d_out, in, weight}), [&]<int kCount>() {
      launch(normalize_backward<kCentred, T, kCount>, Grid(blocks), dim3(kBlockThreads), 0,
             cuda.stream(), partials, run, operation);
    });
  });
  const Grid columns(pieces_of(width, kWarp));
  launch(add_partials, columns, dim3(kBlockThreads), 0, cuda.stream(), d_weight.as<float>(),
         partials, blocks, stride, width);
  if constexpr (kCentred) {
    launch(add_partials, columns, dim3(kBlockThreads), 0, cuda.stream(), d_bias.as<float>(),
           partials + width, blocks, stride, width);
  }
}

template <bool kCentred>
void run_forward(Cuda& cuda, const Normalize& operation) {
  const auto& [out, rstd, mean, in, weight, bias, epsilon] = operation;
  for_gpu_type(out.dtype, [&]<class T>() {
    for_pack<T>(rows_in_vectors({out, in, weight, bias}), [&]<int kCount>() {
      launch_threads(in.shape[0] * kWarp, cuda.stream(), normalize<kCentred, T, kCount>, operation);
    });
  });
}

}  // namespace

void execute(Cuda& cuda, const Normalize& operation) {
  operation.bias.present() ? run_forward<true>(cuda, operation)
                           : run_forward<false>(cuda, operation);
}

void execute(Cuda& cuda, const NormalizeBackward& operation) {
  if (operation.in.shape[0] == 0) return;
  operation.d_bias.present() ? run_backward<true>(cuda, operation)
                             : run_backward<false>(cuda, operation);
}

}  // namespace longscan

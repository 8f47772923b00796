// What the optimizer does to flat buffers, on the GPU: one pass over memory each.
#include "kernels/optimizer.h"

#include <limits>

#include "kernels/adamw_constants.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

// Numbers that a block sums up. A constant, so that the sum does not depend on the GPU.
constexpr std::int64_t kPiece = 1 << 14;

__device__ bool is_finite(double number) {
  return fabs(number) <= std::numeric_limits<double>::max();
}

void require_f32(const Tensor& tensor) {
  if (tensor.dtype != DType::f32) refuse_on_gpu(tensor.dtype, "parameters on the GPU are f32");
}

template <int kCount>
__global__ void sum_squares(double* partials, const float* in, std::int64_t count) {
  const std::int64_t begin = blockIdx.x * kPiece;
  const std::int64_t end = begin + kPiece < count ? begin + kPiece : count;
  double sums[1] = {};
  for (std::int64_t at = begin + threadIdx.x * kCount; at < end; at += kBlockThreads * kCount) {
    float x[kCount];
    load_up_to(end - at, x, in + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[0] += static_cast<double>(x[i]) * x[i];
  }
  block_sum<kBlockThreads>(sums);
  if (threadIdx.x == 0) partials[blockIdx.x] = sums[0];
}

// One thread's work.
__global__ void scale_gradient(const __grid_constant__ GradientScale operation) {
  double scale = 1 / *data_of<const double>(operation.targets);
  const double norm = sqrt(*data_of<const double>(operation.squares)) * scale;
  if (operation.clip_norm > 0 && norm > operation.clip_norm) scale *= operation.clip_norm / norm;
  *data_of<double>(operation.norm) = norm;
  *data_of<double>(operation.scale) =
      is_finite(norm) ? scale : std::numeric_limits<double>::quiet_NaN();
}

struct AdamWBuffers {
  float* parameter;
  float* first;
  float* second;
  const float* gradient;
  const double* gradient_scale;
  __nv_bfloat16* rounded;  // may be nullptr
  std::int64_t count;
};

template <int kCount>
__global__ void adamw(const __grid_constant__ AdamWBuffers buffers,
                      const __grid_constant__ AdamWConstants<float> c) {
  const std::int64_t at = thread_number() * kCount;
  if (at >= buffers.count) return;
  const double scale = *buffers.gradient_scale;
  if (!is_finite(scale)) return;
  const auto gradient_scale = static_cast<float>(scale);
  const std::int64_t left = buffers.count - at;
  float p[kCount];
  float m[kCount];
  float v[kCount];
  float g[kCount];
  load_up_to(left, p, buffers.parameter + at);
  load_up_to(left, m, buffers.first + at);
  load_up_to(left, v, buffers.second + at);
  load_up_to(left, g, buffers.gradient + at);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    g[i] *= gradient_scale;
    m[i] = c.beta1 * m[i] + c.rest1 * g[i];
    v[i] = c.beta2 * v[i] + c.rest2 * g[i] * g[i];
    const float direction = m[i] * c.correction1 / (sqrtf(v[i] * c.correction2) + c.epsilon);
    p[i] -= c.learning_rate * (direction + c.weight_decay * p[i]);
  }
  store_up_to(left, buffers.parameter + at, p);
  store_up_to(left, buffers.first + at, m);
  store_up_to(left, buffers.second + at, v);
  if (buffers.rounded != nullptr) store_up_to(left, buffers.rounded + at, p);
}

}  // namespace

void execute(Cuda& cuda, const SumOfSquares& operation) {
  require_f32(operation.in);
  const std::int64_t count = operation.in.shape[0];
  if (count == 0) return;
  const std::int64_t pieces = pieces_of(count, kPiece);
  auto* partials = cuda.scratch<double>(pieces);
  for_pack<float>(begin_at_vectors({operation.in}), [&]<int kCount>() {
    launch(sum_squares<kCount>, Grid(pieces), dim3(kBlockThreads), 0, cuda.stream(), partials,
           operation.in.as<float>(), count);
  });
  launch(sum_rows<1>, Grid(std::int64_t{1}), dim3(kBlockThreads), 0, cuda.stream(),
         operation.out.as<double>(), partials, pieces, pieces, Result::add);
}

void execute(Cuda& cuda, const GradientScale& operation) {
  launch(scale_gradient, Grid(std::int64_t{1}), dim3(1), 0, cuda.stream(), operation);
}

void execute(Cuda& cuda, const AdamW& operation) {
  require_f32(operation.parameter);
  const AdamWBuffers buffers = {.parameter = operation.parameter.as<float>(),
                                .first = operation.first_moment.as<float>(),
                                .second = operation.second_moment.as<float>(),
                                .gradient = operation.gradient.as<float>(),
                                .gradient_scale = operation.gradient_scale.as<double>(),
                                .rounded = operation.rounded.as<__nv_bfloat16>(),
                                .count = operation.parameter.shape[0]};
  const bool vectors =
      begin_at_vectors({operation.parameter, operation.first_moment, operation.second_moment,
                        operation.gradient, operation.rounded});
  for_pack<float>(vectors, [&]<int kCount>() {
    launch_threads(pieces_of(buffers.count, kCount), cuda.stream(), adamw<kCount>, buffers,
                   AdamWConstants<float>(operation));
  });
}

}  // namespace longscan

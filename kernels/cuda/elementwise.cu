// Elementwise operations on the GPU: one pass over memory each, 16 bytes a thread where they fit.
#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

// 1 / (1 + e^-x). The fast forms are exact to some units in the last place, for large -x to as many
// as |x|; arithmetic must not take longer than memory does.
__device__ float sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}

struct Gelu {
  static constexpr float kScale = 1.5957691216057308f;  // 2 sqrt(2/pi)
  static constexpr float kCubic = 0.044715f;

  __device__ float operator()(float x) const {
    return x * sigmoid(kScale * (x + kCubic * x * x * x));
  }
};

// With s = sigmoid(2u): s + x s (1 - s) d(2u)/dx.
struct GeluBackward {
  __device__ float operator()(float d, float x) const {
    const float square = x * x;
    const float s = sigmoid(Gelu::kScale * (x + Gelu::kCubic * square * x));
    const float slope = Gelu::kScale * (1.0f + 3.0f * Gelu::kCubic * square);
    return d * (s + x * s * (1.0f - s) * slope);
  }
};

struct Relu {
  __device__ float operator()(float x) const { return x < 0.0f ? 0.0f : x; }  // NaN stays
};

struct ReluBackward {
  __device__ float operator()(float d, float x) const { return x > 0.0f ? d : 0.0f; }
};

// out = function(in...) over dense tensors.
template <class T, int kCount, class Function>
__global__ void map_one(T* out, const T* in, std::int64_t count, Function function) {
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float x[kCount];
  load_up_to(count - at, x, in + at);
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] = function(x[i]);
  store_up_to(count - at, out + at, x);
}

template <class T, int kCount, class Function>
__global__ void map_two(T* out, const T* a, const T* b, std::int64_t count, Function function) {
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float x[kCount];
  float y[kCount];
  load_up_to(count - at, x, a + at);
  load_up_to(count - at, y, b + at);
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] = function(x[i], y[i]);
  store_up_to(count - at, out + at, x);
}

template <class Function>
void map(Cuda& cuda, const Tensor& out, const Tensor& in, Function function) {
  for_gpu_type(out.dtype, [&]<class T>() {
    for_pack<T>(begin_at_vectors({out, in}), [&]<int kCount>() {
      launch_threads(pieces_of(out.size(), kCount), cuda.stream(), map_one<T, kCount, Function>,
                     out.as<T>(), in.as<T>(), out.size(), function);
    });
  });
}

template <class Function>
void map(Cuda& cuda, const Tensor& out, const Tensor& a, const Tensor& b, Function function) {
  for_gpu_type(out.dtype, [&]<class T>() {
    for_pack<T>(begin_at_vectors({out, a, b}), [&]<int kCount>() {
      launch_threads(pieces_of(out.size(), kCount), cuda.stream(), map_two<T, kCount, Function>,
                     out.as<T>(), a.as<T>(), b.as<T>(), out.size(), function);
    });
  });
}

template <class T, int kCount>
__global__ void add_rows(const __grid_constant__ Add add) {
  const std::int64_t columns = add.out.shape[1];
  const std::int64_t packs = pieces_of(columns, kCount);
  const std::int64_t row = thread_number() / packs;
  if (row >= add.out.shape[0]) return;
  const std::int64_t column = thread_number() % packs * kCount;
  const std::int64_t left = columns - column;
  float a[kCount];
  float b[kCount];
  load_up_to(left, a, data_of<const T>(add.a) + row * add.a.stride[0] + column);
  load_up_to(left, b, data_of<const T>(add.b) + row * add.b.stride[0] + column);
  const auto a_factor = static_cast<float>(add.a_factor);
  const auto b_factor = static_cast<float>(add.b_factor);
#pragma unroll
  for (int i = 0; i < kCount; ++i) a[i] = a_factor * a[i] + b_factor * b[i];
  store_up_to(left, data_of<T>(add.out) + row * add.out.stride[0] + column, a);
}

template <class T, int kCount>
__global__ void swiglu(T* out, const T* in, std::int64_t rows, std::int64_t hidden) {
  const std::int64_t packs = hidden / kCount;
  const std::int64_t row = thread_number() / packs;
  if (row >= rows) return;
  const std::int64_t column = thread_number() % packs * kCount;
  float gate[kCount];
  float up[kCount];
  load(gate, in + row * 2 * hidden + column);
  load(up, in + row * 2 * hidden + hidden + column);
#pragma unroll
  for (int i = 0; i < kCount; ++i) gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
  store(out + row * hidden + column, gate);
}

template <class T, int kCount>
__global__ void swiglu_backward(T* d_in, const T* d_out, const T* in, std::int64_t rows,
                                std::int64_t hidden) {
  const std::int64_t packs = hidden / kCount;
  const std::int64_t row = thread_number() / packs;
  if (row >= rows) return;
  const std::int64_t column = thread_number() % packs * kCount;
  const std::int64_t at = row * 2 * hidden + column;
  float d[kCount];
  float gate[kCount];
  float up[kCount];
  load(d, d_out + row * hidden + column);
  load(gate, in + at);
  load(up, in + at + hidden);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float s = sigmoid(gate[i]);
    const float silu = gate[i] * s;
    gate[i] = d[i] * up[i] * (s + silu * (1.0f - s));
    up[i] = d[i] * silu;
  }
  store(d_in + at, gate);
  store(d_in + at + hidden, up);
}

struct Mask {
  RandomKey key;
  const std::int64_t* step;  // added to the key's; may be nullptr
  std::uint64_t first;       // element of the first number
  std::uint32_t threshold;
  float scale;
};

// A pack of one draws a block of words for itself; a larger one begins where a block does.
template <class T, int kCount>
__global__ void drop(T* out, const T* in, std::int64_t count, const __grid_constant__ Mask mask) {
  constexpr int kWords = 4;
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float x[kCount];
  load_up_to(count - at, x, in + at);
  RandomKey key = mask.key;
  if (mask.step != nullptr) key.step += static_cast<std::uint64_t>(*mask.step);
  const std::uint64_t element = mask.first + static_cast<std::uint64_t>(at);
  const auto skipped = static_cast<int>(element % kWords);
#pragma unroll
  for (int begin = 0; begin < kCount; begin += kWords) {
    const RandomWords words =
        random_words(key, (element + static_cast<std::uint64_t>(begin)) / kWords);
    if constexpr (kCount == 1) {
      const std::uint32_t word =
          skipped < 2 ? (skipped == 0 ? words[0] : words[1]) : (skipped == 2 ? words[2] : words[3]);
      x[0] = word < mask.threshold ? 0.0f : x[0] * mask.scale;
    } else {
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        x[begin + i] = words[i] < mask.threshold ? 0.0f : x[begin + i] * mask.scale;
      }
    }
  }
  store_up_to(count - at, out + at, x);
}

}  // namespace

void execute(Cuda& cuda, const Add& operation) {
  Add add = operation;
  if (add.out.is_dense() && add.a.is_dense() && add.b.is_dense()) {  // one long row
    for (Tensor* tensor : {&add.out, &add.a, &add.b}) {
      *tensor = tensor->reshaped({1, tensor->size()});
    }
  }
  for_gpu_type(add.out.dtype, [&]<class T>() {
    for_pack<T>(rows_begin_at_vectors({add.out, add.a, add.b}), [&]<int kCount>() {
      launch_threads(add.out.shape[0] * pieces_of(add.out.shape[1], kCount), cuda.stream(),
                     add_rows<T, kCount>, add);
    });
  });
}

void execute(Cuda& cuda, const Activation& operation) {
  switch (operation.kind) {
    case ActivationKind::gelu:
      return map(cuda, operation.out, operation.in, Gelu{});
    case ActivationKind::relu:
      return map(cuda, operation.out, operation.in, Relu{});
  }
}

void execute(Cuda& cuda, const ActivationBackward& operation) {
  switch (operation.kind) {
    case ActivationKind::gelu:
      return map(cuda, operation.d_in, operation.d_out, operation.in, GeluBackward{});
    case ActivationKind::relu:
      return map(cuda, operation.d_in, operation.d_out, operation.in, ReluBackward{});
  }
}

void execute(Cuda& cuda, const SwiGlu& operation) {
  const auto& [out, in] = operation;
  for_gpu_type(out.dtype, [&]<class T>() {
    for_pack<T>(rows_in_vectors({out, in}), [&]<int kCount>() {
      launch_threads(out.size() / kCount, cuda.stream(), swiglu<T, kCount>, out.as<T>(), in.as<T>(),
                     out.shape[0], out.shape[1]);
    });
  });
}

void execute(Cuda& cuda, const SwiGluBackward& operation) {
  const auto& [d_in, d_out, in] = operation;
  for_gpu_type(d_out.dtype, [&]<class T>() {
    for_pack<T>(rows_in_vectors({d_in, d_out, in}), [&]<int kCount>() {
      launch_threads(d_out.size() / kCount, cuda.stream(), swiglu_backward<T, kCount>, d_in.as<T>(),
                     d_out.as<T>(), in.as<T>(), d_out.shape[0], d_out.shape[1]);
    });
  });
}

void execute(Cuda& cuda, const Dropout& operation) {
  const auto& [out, in, rate, key, step, first_token] = operation;
  // The smallest word with uniform_from(word) >= rate.
  const double bound = std::ceil(rate * 0x1p32 - 0.5);
  const Mask mask = {
      .key = key,
      .step = step.as<std::int64_t>(),
      .first = static_cast<std::uint64_t>(first_token) * static_cast<std::uint64_t>(in.shape[1]),
      .threshold = static_cast<std::uint32_t>(std::clamp(bound, 0.0, 0x1p32 - 1)),
      .scale = static_cast<float>(1.0 / (1.0 - rate))};
  for_gpu_type(out.dtype, [&]<class T>() {
    const bool vectors = begin_at_vectors({out, in}) && mask.first % 4 == 0;
    for_pack<T>(vectors, [&]<int kCount>() {
      launch_threads(pieces_of(out.size(), kCount), cuda.stream(), drop<T, kCount>, out.as<T>(),
                     in.as<T>(), out.size(), mask);
    });
  });
}

}  // namespace longscan

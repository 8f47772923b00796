// Elementwise operations on the GPU: one pass over memory each, 16 bytes a thread where they fit.
#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/check.h"
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

__global__ void round_numbers(__nv_bfloat16* out, const float* in, std::int64_t count,
                              bool vectors) {
  constexpr int kCount = kVector<float>;
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float x[kCount];
  // What does not lie where an access may begin moves one by one, like what is left at the end.
  const std::int64_t left = count - at;
  if (vectors) {
    load_up_to(left, x, in + at);
    store_up_to(left, out + at, x);
    return;
  }
  for (std::int64_t i = 0; i < kCount && i < left; ++i) {
    out[at + i] = from_float<__nv_bfloat16>(in[at + i]);
  }
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
  std::uint64_t first;  // element of the first number
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
  const std::uint64_t element = mask.first + static_cast<std::uint64_t>(at);
  const auto skipped = static_cast<int>(element % kWords);
#pragma unroll
  for (int begin = 0; begin < kCount; begin += kWords) {
    const RandomWords words =
        random_words(mask.key, (element + static_cast<std::uint64_t>(begin)) / kWords);
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

template <class T>
__global__ void fill(T* out, std::int64_t count, T value) {
  const std::int64_t at = thread_number();
  if (at < count) out[at] = value;
}

// As many numbers at once as an access takes, where they fit.
template <class T>
void fill_with(Cuda& cuda, const Tensor& out, T value) {
  const std::int64_t count = out.size();
  std::int64_t filled = 0;
  if (begin_at_vectors({out})) {
    using Vector = Pack<T, kVector<T>>;
    Vector vector;
    for (T& number : vector.numbers) number = value;
    const std::int64_t vectors = count / kVector<T>;
    filled = vectors * kVector<T>;
    launch_threads(vectors, cuda.stream(), fill<Vector>, out.as<Vector>(), vectors, vector);
  }
  launch_threads(count - filled, cuda.stream(), fill<T>, out.as<T>() + filled, count - filled,
                 value);
}

// Rows of two tensors of one shape: the first dimension counts groups of rows.
struct CopiedRows {
  std::byte* out;
  const std::byte* in;
  std::int64_t groups;
  std::int64_t rows;
  std::int64_t units;  // of what moves in one access, in a row
  // In bytes.
  std::int64_t out_group, out_row;
  std::int64_t in_group, in_row;
};

template <class Unit>
__global__ void copy_rows(const __grid_constant__ CopiedRows copied) {
  const std::int64_t row = thread_number() / copied.units;
  if (row >= copied.groups * copied.rows) return;
  const std::int64_t offset = thread_number() % copied.units * sizeof(Unit);
  const std::int64_t group = row / copied.rows;
  const std::int64_t within = row % copied.rows;
  const std::byte* from = copied.in + group * copied.in_group + within * copied.in_row + offset;
  std::byte* to = copied.out + group * copied.out_group + within * copied.out_row + offset;
  *reinterpret_cast<Unit*>(to) = *reinterpret_cast<const Unit*>(from);
}

CopiedRows rows_of(const Copy& copy) {
  const Tensor& out = copy.out;
  const Tensor& in = copy.in;
  const std::int64_t size = size_of(out.dtype);
  CopiedRows copied = {.out = out.as<std::byte>(),
                       .in = in.as<std::byte>(),
                       .groups = 1,
                       .rows = 1,
                       .units = out.shape[out.rank - 1] * size};
  if (out.rank > 1) {
    copied.rows = out.shape[out.rank - 2];
    copied.out_row = out.stride[out.rank - 2] * size;
    copied.in_row = in.stride[in.rank - 2] * size;
  }
  if (out.rank == 3) {
    copied.groups = out.shape[0];
    copied.out_group = out.stride[0] * size;
    copied.in_group = in.stride[0] * size;
  }
  return copied;
}

template <class Unit>
void copy_in(Cuda& cuda, CopiedRows copied) {
  copied.units /= sizeof(Unit);
  launch_threads(copied.groups * copied.rows * copied.units, cuda.stream(), copy_rows<Unit>,
                 copied);
}

}  // namespace

void execute(Cuda& cuda, const Fill& operation) {
  const Tensor& out = operation.out;
  if (out.dtype == DType::f64) return fill_with(cuda, out, operation.value);  // of sums
  for_gpu_type(out.dtype, [&]<class T>() {
    fill_with(cuda, out, from_float<T>(static_cast<float>(operation.value)));
  });
}

void execute(Cuda& cuda, const Copy& operation) {
  const CopiedRows copied = rows_of(operation);
  if (operation.out.is_dense() && operation.in.is_dense()) {
    if (copied.units == 0 || operation.out.size() == 0) return;
    CUDA_CHECK(cudaMemcpyAsync(copied.out, copied.in,
                               static_cast<std::size_t>(operation.out.bytes()),
                               cudaMemcpyDeviceToDevice, cuda.stream()));
    return;
  }
  // The bits that any of these numbers has are those that an access may not be wider than.
  const auto bits = static_cast<std::uint64_t>(
      reinterpret_cast<std::intptr_t>(copied.out) | reinterpret_cast<std::intptr_t>(copied.in) |
      copied.units | copied.out_group | copied.out_row | copied.in_group | copied.in_row);
  if (bits % sizeof(uint4) == 0) return copy_in<uint4>(cuda, copied);
  if (bits % sizeof(std::uint64_t) == 0) return copy_in<std::uint64_t>(cuda, copied);
  if (bits % sizeof(std::uint32_t) == 0) return copy_in<std::uint32_t>(cuda, copied);
  if (bits % sizeof(std::uint16_t) == 0) return copy_in<std::uint16_t>(cuda, copied);
  copy_in<std::uint8_t>(cuda, copied);
}

void execute(Cuda& cuda, const Round& operation) {
  const std::int64_t count = operation.in.size();
  launch_threads(pieces_of(count, kVector<float>), cuda.stream(), round_numbers,
                 operation.out.as<__nv_bfloat16>(), operation.in.as<float>(), count,
                 begin_at_vectors({operation.out, operation.in}));
}

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
  const auto& [out, in, rate, key, first_token] = operation;
  // The smallest word with uniform_from(word) >= rate.
  const double bound = std::ceil(rate * 0x1p32 - 0.5);
  const Mask mask = {
      .key = key,
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

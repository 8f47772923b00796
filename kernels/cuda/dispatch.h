// From a tensor's element type at run time to a template's type, and how numbers of that type come
// from memory and go back: many at a time where rows allow it, and in f32 in between.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include "kernels/cuda/gpu.h"
#include "kernels/tensor.h"

namespace longscan {

/// Throws internal: `dtype` is none of those that `expected` names.
[[noreturn]] void refuse_on_gpu(DType dtype, const char* expected);

/// Calls `body.operator()<float>()` or `<__nv_bfloat16>()`:
/// for_gpu_type(dtype, [&]<class T>() { ... }). Throws internal for any other type.
template <class Body>
decltype(auto) for_gpu_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return std::forward<Body>(body).template operator()<float>();
    case DType::bf16:
      return std::forward<Body>(body).template operator()<__nv_bfloat16>();
    default:
      refuse_on_gpu(dtype, "the GPU computes in f32 and bf16");
  }
}

/// The same for integer indices, `std::int32_t` or `std::int64_t`.
template <class Body>
decltype(auto) for_gpu_index_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::i32:
      return std::forward<Body>(body).template operator()<std::int32_t>();
    case DType::i64:
      return std::forward<Body>(body).template operator()<std::int64_t>();
    default:
      refuse_on_gpu(dtype, "an index is i32 or i64");
  }
}

/// `tensor.as<T>()`, for kernels.
template <class T>
__device__ T* data_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.data);
}

__host__ __device__ inline float to_float(float number) {
  return number;
}
__host__ __device__ inline float to_float(__nv_bfloat16 number) {
  return __bfloat162float(number);
}

/// Rounded to the nearest, ties to even.
template <class T>
__host__ __device__ T from_float(float number) {
  if constexpr (std::is_same_v<T, float>) {
    return number;
  } else {
    return __float2bfloat16_rn(number);
  }
}

/// Numbers that lie side by side and move in one access.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T numbers[kCount];
};

/// The widest access there is.
constexpr std::int64_t kVectorBytes = 16;
template <class T>
constexpr int kVector = static_cast<int>(kVectorBytes / sizeof(T));

/// `kCount` numbers in as few accesses as they take; `from` is a multiple of what one of them
/// takes.
template <int kCount, class T>
__device__ void load(float (&to)[kCount], const T* from) {
  constexpr int kStep = kCount < kVector<T> ? kCount : kVector<T>;
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    const auto pack = *reinterpret_cast<const Pack<T, kStep>*>(from + i);
#pragma unroll
    for (int j = 0; j < kStep; ++j) to[i + j] = to_float(pack.numbers[j]);
  }
}
template <int kCount, class T>
__device__ void store(T* to, const float (&from)[kCount]) {
  constexpr int kStep = kCount < kVector<T> ? kCount : kVector<T>;
#pragma unroll
  for (int i = 0; i < kCount; i += kStep) {
    Pack<T, kStep> pack;
#pragma unroll
    for (int j = 0; j < kStep; ++j) pack.numbers[j] = from_float<T>(from[i + j]);
    *reinterpret_cast<Pack<T, kStep>*>(to + i) = pack;
  }
}

/// The same where only `count` numbers may be left: the others are read as 0, and not written.
template <int kCount, class T>
__device__ void load_up_to(std::int64_t count, float (&to)[kCount], const T* from) {
  if (count >= kCount) {
    load(to, from);
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) to[i] = i < count ? to_float(from[i]) : 0.0f;
}
template <int kCount, class T>
__device__ void store_up_to(std::int64_t count, T* to, const float (&from)[kCount]) {
  if (count >= kCount) {
    store(to, from);
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i < count) to[i] = from_float<T>(from[i]);
  }
}

/// Whether the first number of each tensor lies where the widest accesses may begin.
inline bool begin_at_vectors(std::initializer_list<Tensor> tensors) {
  for (const Tensor& tensor : tensors) {
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % kVectorBytes != 0) return false;
  }
  return true;
}

/// Whether the first number of every row does.
inline bool rows_begin_at_vectors(std::initializer_list<Tensor> tensors) {
  if (!begin_at_vectors(tensors)) return false;
  for (const Tensor& tensor : tensors) {
    for (int i = 0; i + 1 < tensor.rank; ++i) {
      const std::int64_t stride = tensor.stride[i] * size_of(tensor.dtype);
      if (tensor.shape[i] > 1 && stride % kVectorBytes != 0) return false;
    }
  }
  return true;
}

/// Whether every row is a whole number of the widest accesses.
inline bool rows_in_vectors(std::initializer_list<Tensor> tensors) {
  if (!rows_begin_at_vectors(tensors)) return false;
  for (const Tensor& tensor : tensors) {
    if (tensor.rank == 0) continue;
    if (tensor.shape[tensor.rank - 1] * size_of(tensor.dtype) % kVectorBytes != 0) return false;
  }
  return true;
}

/// Calls `body.operator()<kCount>()` with as many numbers as an access of T takes: the most, or
/// one.
template <class T, class Body>
void for_pack(bool vectors, Body&& body) {
  vectors ? body.template operator()<kVector<T>>() : body.template operator()<1>();
}

}  // namespace longscan

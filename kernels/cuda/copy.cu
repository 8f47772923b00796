// Fill, Copy and Round on the GPU: numbers that only move, in the widest accesses that fit.
#include <cstddef>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/threads.h"
#include "kernels/elementwise.h"

namespace longscan {

namespace {

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

template <int kCount>
__global__ void round_numbers(__nv_bfloat16* out, const float* in, std::int64_t count) {
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float x[kCount];
  load_up_to(count - at, x, in + at);
  store_up_to(count - at, out + at, x);
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
  // What all of these are multiples of, an access may move.
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
  const auto& [out, in] = operation;
  for_pack<float>(begin_at_vectors({out, in}), [&]<int kCount>() {
    launch_threads(pieces_of(in.size(), kCount), cuda.stream(), round_numbers<kCount>,
                   out.as<__nv_bfloat16>(), in.as<const float>(), in.size());
  });
}

}  // namespace longscan

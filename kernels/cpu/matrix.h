// Matrices in memory as the BLAS library takes them.
#pragma once

#include "kernels/cpu/blas.h"
#include "kernels/tensor.h"

namespace longscan {

/// Row-major, rows `stride` numbers apart.
template <class T>
struct Matrix {
  T* data;
  std::int64_t stride;
  Matrix at(std::int64_t row, std::int64_t column) const {
    return {data + row * stride + column, stride};
  }
  T* row(std::int64_t index) const { return data + index * stride; }
};

/// C[m, n] = alpha op(A) op(B), or C += that with `add`.
template <class T>
struct Product {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t depth = 0;
  bool transpose_a = false;
  bool transpose_b = false;
  T alpha = 1;
  bool add = false;

  void run(Matrix<T> c, Matrix<T> a, Matrix<T> b) const {
    blas::gemm(transpose_a, transpose_b, m, n, depth, alpha, a.data, a.stride, b.data, b.stride,
               add ? T{1} : T{0}, c.data, c.stride);
  }
};

/// The rows of one head in [tokens, heads, dim].
template <class T>
Matrix<T> head_rows(const Tensor& tensor, std::int64_t head) {
  return {tensor.as<T>() + head * tensor.stride[1], tensor.stride[0]};
}

}  // namespace longscan

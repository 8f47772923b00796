// The one door to the BLAS library: single-threaded matrix products in float and double.
#pragma once

#include <cstdint>

namespace longscan::blas {

/// C[m, n] = alpha * op(A) op(B) + beta * C, row-major; op(A) is [m, k], op(B) is [k, n]; `ld*`
/// count elements from row to row as stored. beta = 0 ignores what is in C.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
          float beta, float* c, std::int64_t ldc);
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
          double beta, double* c, std::int64_t ldc);

/// Makes the library compute on the calling thread alone.
void use_calling_thread_only();

}  // namespace longscan::blas

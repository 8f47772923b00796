// Scratch memory and the calls into BLAS.
#include "kernels/cpu/cpu.h"

#include <cblas.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <fstream>

#include "kernels/cpu/blas.h"

namespace longscan {

Cpu::Cpu(int threads)
    : pool_(std::make_unique<ThreadPool>(threads)),
      scratch_(static_cast<std::size_t>(threads) + 1) {
  blas::use_calling_thread_only();
}

std::int64_t Cpu::memory_used() const {
  std::ifstream pages("/proc/self/statm");
  std::int64_t all = 0;
  std::int64_t resident = 0;
  pages >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

void Cpu::copy(void* to, const void* from, std::int64_t bytes) {
  if (bytes > 0) std::memmove(to, from, static_cast<std::size_t>(bytes));
}

std::byte* Cpu::grown(Buffer& buffer, std::int64_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes);
  return buffer.data();
}

namespace blas {

namespace {
CBLAS_TRANSPOSE flag(bool transpose) {
  return transpose ? CblasTrans : CblasNoTrans;
}
int narrow(std::int64_t extent) {
  return static_cast<int>(extent);
}
}  // namespace

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
          float beta, float* c, std::int64_t ldc) {
  cblas_sgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), narrow(m), narrow(n), narrow(k),
              alpha, a, narrow(lda), b, narrow(ldb), beta, c, narrow(ldc));
}

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
          double beta, double* c, std::int64_t ldc) {
  cblas_dgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), narrow(m), narrow(n), narrow(k),
              alpha, a, narrow(lda), b, narrow(ldb), beta, c, narrow(ldc));
}

void use_calling_thread_only() {
  openblas_set_num_threads(1);
}

}  // namespace blas

}  // namespace longscan

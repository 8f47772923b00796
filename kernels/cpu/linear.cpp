// Matrix products on the CPU: each thread gives BLAS its own piece of the output.
#include "kernels/linear.h"

#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"

namespace longscan {

namespace {

// Below this many multiply-adds a second thread costs more than it brings.
constexpr std::int64_t kSerialWork = 1 << 15;

// The longer side of the output is cut into one piece a thread: BLAS packs the operands of each
// piece anew, so fewer and larger pieces are faster.
template <class T>
void multiply(Cpu& cpu, const MatMul& product) {
  const std::int64_t m = product.out.shape[0];
  const std::int64_t n = product.out.shape[1];
  const std::int64_t k = product.a.shape[product.transpose_a ? 0 : 1];
  const std::int64_t pieces = m * n * k < kSerialWork ? 1 : cpu.threads();
  const bool cut_rows = m >= n;
  const T beta = product.accumulate ? T{1} : T{0};
  cpu.for_each(pieces, [&](std::int64_t piece, int) {
    const std::int64_t extent = cut_rows ? m : n;
    const std::int64_t begin = extent * piece / pieces;
    const std::int64_t end = extent * (piece + 1) / pieces;
    if (begin == end) return;
    const auto cut = [&](const Tensor& tensor, bool along_rows) {
      return along_rows ? tensor.rows(begin, end) : tensor.columns(begin, end);
    };
    const Tensor out = cut(product.out, cut_rows);
    const Tensor a = cut_rows ? cut(product.a, !product.transpose_a) : product.a;
    const Tensor b = cut_rows ? product.b : cut(product.b, product.transpose_b);
    blas::gemm(product.transpose_a, product.transpose_b, out.shape[0], out.shape[1], k, T{1},
               a.as<T>(), a.stride[0], b.as<T>(), b.stride[0], beta, out.as<T>(), out.stride[0]);
  });
}

template <class T>
void add_bias(Cpu& cpu, const Tensor& out, const Tensor& bias) {
  const std::int64_t columns = out.shape[1];
  cpu.for_blocks(out.shape[0], 128, [&](std::int64_t begin, std::int64_t end, int) {
    const T* add = bias.as<T>();
    for (std::int64_t row = begin; row < end; ++row) {
      T* values = out.as<T>() + row * out.stride[0];
#pragma omp simd
      for (std::int64_t column = 0; column < columns; ++column) values[column] += add[column];
    }
  });
}

// Column sums in blocks of rows whose partial sums are joined in order, for the same bits on any
// number of threads.
template <class T>
void add_column_sums(Cpu& cpu, const Tensor& sums, const Tensor& in) {
  constexpr std::int64_t kBlock = 256;
  const std::int64_t columns = in.shape[1];
  const std::int64_t blocks = (in.shape[0] + kBlock - 1) / kBlock;
  T* partial = cpu.shared_scratch<T>(blocks * columns);
  cpu.for_blocks(in.shape[0], kBlock, [&](std::int64_t begin, std::int64_t end, int) {
    T* sum = partial + begin / kBlock * columns;
    std::fill(sum, sum + columns, T{0});
    for (std::int64_t row = begin; row < end; ++row) {
      const T* values = in.as<T>() + row * in.stride[0];
#pragma omp simd
      for (std::int64_t column = 0; column < columns; ++column) sum[column] += values[column];
    }
  });
  for (std::int64_t block = 0; block < blocks; ++block) {
    for (std::int64_t column = 0; column < columns; ++column) {
      sums.as<T>()[column] += partial[block * columns + column];
    }
  }
}

}  // namespace

void execute(Cpu& cpu, const MatMul& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() { multiply<T>(cpu, operation); });
}

void execute(Cpu& cpu, const Linear& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    multiply<T>(
        cpu, {.out = operation.out, .a = operation.in, .b = operation.weight, .transpose_b = true});
    if (operation.bias.present()) add_bias<T>(cpu, operation.out, operation.bias);
  });
}

void execute(Cpu& cpu, const LinearBackwardWeight& operation) {
  for_float_type(operation.d_weight.dtype, [&]<class T>() {
    multiply<T>(cpu, {.out = operation.d_weight,
                      .a = operation.d_out,
                      .b = operation.in,
                      .transpose_a = true,
                      .accumulate = true});
    if (operation.d_bias.present()) add_column_sums<T>(cpu, operation.d_bias, operation.d_out);
  });
}

}  // namespace longscan

// Matrix products on the GPU: cuBLASLt's, and what stands around them.
#include "kernels/linear.h"

#include <algorithm>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"

namespace longscan {

namespace {

constexpr int kThreads = 256;

// The bias in the type of the outputs, which is the one that cuBLASLt adds to them. They are
// rounded to it themselves.
__global__ void round_bias(__nv_bfloat16* rounded, const float* bias, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) rounded[i] = from_float<__nv_bfloat16>(bias[i]);
}

Tensor bias_as(Cuda& cuda, DType dtype, const Tensor& bias) {
  if (!bias.present() || dtype == bias.dtype) return bias;
  const std::int64_t count = bias.size();
  auto* rounded = cuda.scratch<__nv_bfloat16>(count);
  launch(round_bias, (count + kThreads - 1) / kThreads, kThreads, 0, cuda.stream(), rounded,
         bias.as<float>(), count);
  return Tensor::dense(rounded, dtype, {count});
}

// Every row is the bias, or zeros where there is none: a product over nothing.
template <class T>
__global__ void fill_rows(const __grid_constant__ Tensor out, const float* bias) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= out.shape[0] * out.shape[1]) return;
  const std::int64_t column = i % out.shape[1];
  data_of<T>(out)[i / out.shape[1] * out.stride[0] + column] =
      from_float<T>(bias == nullptr ? 0 : bias[column]);
}

void fill(Cuda& cuda, const Tensor& out, const Tensor& bias) {
  for_gpu_type(out.dtype, [&]<class T>() {
    launch(fill_rows<T>, (out.size() + kThreads - 1) / kThreads, kThreads, 0, cuda.stream(), out,
           bias.as<float>());
  });
}

// out = op(a) op(b) + bias, whatever is empty.
void multiply(Cuda& cuda, MatMul product, const Tensor& bias) {
  if (product.out.size() == 0) return;
  if (product.a.size() == 0) {
    if (!product.accumulate) fill(cuda, product.out, bias);
    return;
  }
  Tensor fused = bias_as(cuda, product.out.dtype, bias);
  if (bias.present() && !cuda.blas().can_multiply(product, fused)) {
    fill(cuda, product.out, bias);
    product.accumulate = true;
    fused = {};
  }
  cuda.blas().multiply(product, fused, cuda.stream());
}

// A warp takes the columns that its lanes reach in one access each, so that the eight of a block
// read rows side by side.
constexpr int kLanes = 32;
constexpr int kRowsAtOnce = kThreads / kLanes;

struct ColumnSums {
  const void* in;
  std::int64_t stride;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t rows_of_block;
  float* out;  // [blocks of rows, columns]
  bool add;
};

// The sums of a block of rows each, in the same order whatever the GPU.
template <class T, int kCount>
__global__ void sum_columns(const __grid_constant__ ColumnSums sums) {
  SHARED(float, partial, [kRowsAtOnce][kLanes * kCount]);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t first_column = std::int64_t{blockIdx.x} * kLanes * kCount;
  const std::int64_t column = first_column + lane * kCount;
  const std::int64_t first_row = std::int64_t{blockIdx.y} * sums.rows_of_block;
  const std::int64_t end = min(sums.rows, first_row + sums.rows_of_block);
  float sum[kCount] = {};
  if (column < sums.columns) {
    const T* numbers = static_cast<const T*>(sums.in) + column;
#pragma unroll 4
    for (std::int64_t row = first_row + warp; row < end; row += kRowsAtOnce) {
      float more[kCount];
      load(more, numbers + row * sums.stride);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum[i] += more[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) partial[warp][lane * kCount + i] = sum[i];
  __syncthreads();
  const int index = static_cast<int>(threadIdx.x);
  if (index >= kLanes * kCount || first_column + index >= sums.columns) return;
  float total = 0;
#pragma unroll
  for (int row = 0; row < kRowsAtOnce; ++row) total += partial[row][index];
  float& out = sums.out[blockIdx.y * sums.columns + first_column + index];
  out = sums.add ? out + total : total;
}

template <class T>
void launch_sums(Cuda& cuda, const ColumnSums& sums, bool vectors) {
  for_pack<T>(vectors, [&]<int kCount>() {
    static_assert(kLanes * kCount <= kThreads);
    const auto tiles =
        static_cast<unsigned>((sums.columns + kLanes * kCount - 1) / (kLanes * kCount));
    const auto blocks =
        static_cast<unsigned>((sums.rows + sums.rows_of_block - 1) / sums.rows_of_block);
    launch(sum_columns<T, kCount>, dim3(tiles, blocks), kThreads, 0, cuda.stream(), sums);
  });
}

// In two steps: blocks of rows, then their sums, of which there are no more than one block takes.
template <class T>
void add_column_sums(Cuda& cuda, const Tensor& out, const Tensor& in) {
  constexpr std::int64_t kLeastRows = 256;
  constexpr std::int64_t kMostBlocks = 512;
  const std::int64_t rows = in.shape[0];
  const std::int64_t columns = in.shape[1];
  const std::int64_t rows_of_block = std::max(kLeastRows, (rows + kMostBlocks - 1) / kMostBlocks);
  const std::int64_t blocks = (rows + rows_of_block - 1) / rows_of_block;
  auto* partial = cuda.scratch<float>(blocks * columns);
  launch_sums<T>(cuda,
                 {.in = in.data,
                  .stride = in.stride[0],
                  .rows = rows,
                  .columns = columns,
                  .rows_of_block = rows_of_block,
                  .out = partial,
                  .add = false},
                 rows_in_vectors({in}));
  launch_sums<float>(cuda,
                     {.in = partial,
                      .stride = columns,
                      .rows = blocks,
                      .columns = columns,
                      .rows_of_block = blocks,
                      .out = out.as<float>(),
                      .add = true},
                     columns % kVector<float> == 0);
}

}  // namespace

void execute(Cuda& cuda, const MatMul& operation) {
  multiply(cuda, operation, {});
}

void execute(Cuda& cuda, const Linear& operation) {
  multiply(cuda,
           {.out = operation.out, .a = operation.in, .b = operation.weight, .transpose_b = true},
           operation.bias);
}

void execute(Cuda& cuda, const LinearBackwardWeight& operation) {
  multiply(cuda,
           {.out = operation.d_weight,
            .a = operation.d_out,
            .b = operation.in,
            .transpose_a = true,
            .accumulate = true},
           {});
  if (!operation.d_bias.present() || operation.d_out.size() == 0) return;
  for_gpu_type(operation.d_out.dtype,
               [&]<class T>() { add_column_sums<T>(cuda, operation.d_bias, operation.d_out); });
}

}  // namespace longscan

// What cuBLASLt's opaque descriptors hold here.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace longscan::cuda_on_cpu {

struct MatrixLayout {
  cudaDataType type;
  cublasLtOrder_t order;
  std::uint64_t rows;
  std::uint64_t columns;
  std::int64_t leading_dimension;
  std::int64_t batch_stride;
  std::int32_t batch_count;

  std::int64_t offset(std::int64_t row, std::int64_t column) const {
    return order == CUBLASLT_ORDER_COL ? row + column * leading_dimension
                                       : row * leading_dimension + column;
  }
};
static_assert(sizeof(MatrixLayout) <= sizeof(cublasLtMatrixLayoutOpaque_t));

struct MatmulDescriptor {
  cublasComputeType_t compute;
  cudaDataType scale;
  cublasLtPointerMode_t pointer_mode;
  cublasOperation_t transpose_a;
  cublasOperation_t transpose_b;
  cublasLtEpilogue_t epilogue;
  std::int32_t bias_type;  // -1 or the output's
  std::int32_t aux_type;   // -1 or the output's
  void* bias;
  std::int64_t bias_batch_stride;
  void* aux;
  std::int64_t aux_leading_dimension;
  std::int64_t aux_batch_stride;
};
static_assert(sizeof(MatmulDescriptor) <= sizeof(cublasLtMatmulDescOpaque_t));

struct MatmulPreference {
  std::uint64_t workspace_bytes;
};
static_assert(sizeof(MatmulPreference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

inline MatrixLayout& layout_in(cublasLtMatrixLayout_t opaque) {
  return *reinterpret_cast<MatrixLayout*>(opaque);
}
inline MatmulDescriptor& descriptor_in(cublasLtMatmulDesc_t opaque) {
  return *reinterpret_cast<MatmulDescriptor*>(opaque);
}

/// A product with everything by value, so that a captured one can run when its descriptors are
/// gone.
struct Product {
  MatmulDescriptor how;
  float alpha;
  float beta;
  const void* a;
  const void* b;
  const void* c;
  void* d;
  MatrixLayout a_layout;
  MatrixLayout b_layout;
  MatrixLayout c_layout;
  MatrixLayout d_layout;

  cublasStatus_t check() const;
  void operator()() const;
};

}  // namespace longscan::cuda_on_cpu

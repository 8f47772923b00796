// cuBLASLt's functions around the product: handles, descriptors, heuristics.
#include "tests/cuda_on_cpu/blas_descriptors.h"

#include <cstddef>
#include <cstring>
#include <memory>

#include "tests/cuda_on_cpu/stream.h"

namespace longscan::cuda_on_cpu {
namespace {

// Where an attribute lies, or null where there is none such here.
struct Field {
  void* place = nullptr;
  std::size_t bytes = 0;

  template <class T>
  static Field of(T& field) {
    return {&field, sizeof(T)};
  }
  cublasStatus_t set(const void* value, std::size_t size) const {
    if (place == nullptr) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (size != bytes) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(place, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
  cublasStatus_t get(void* value, std::size_t size, std::size_t* written) const {
    if (place == nullptr) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (written != nullptr) *written = bytes;
    if (size < bytes) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(value, place, bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
};

Field field_of(MatmulDescriptor& descriptor, cublasLtMatmulDescAttributes_t attribute) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return Field::of(descriptor.compute);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return Field::of(descriptor.scale);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return Field::of(descriptor.pointer_mode);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Field::of(descriptor.transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return Field::of(descriptor.transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Field::of(descriptor.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Field::of(descriptor.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return Field::of(descriptor.bias_batch_stride);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return Field::of(descriptor.bias_type);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return Field::of(descriptor.aux);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return Field::of(descriptor.aux_leading_dimension);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return Field::of(descriptor.aux_batch_stride);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
      return Field::of(descriptor.aux_type);
    default:
      return {};
  }
}

Field field_of(MatrixLayout& layout, cublasLtMatrixLayoutAttribute_t attribute) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return Field::of(layout.type);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return Field::of(layout.order);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return Field::of(layout.rows);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return Field::of(layout.columns);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return Field::of(layout.leading_dimension);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return Field::of(layout.batch_count);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return Field::of(layout.batch_stride);
    default:
      return {};
  }
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

using namespace longscan::cuda_on_cpu;

struct cublasLtContext {};

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = std::make_unique<cublasLtContext>().release();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  const std::unique_ptr<cublasLtContext> owner(handle);
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "an error of cuBLASLt";
  }
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return cublasLtGetStatusName(status);
}

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t opaque, size_t,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  *opaque = {};
  MatmulDescriptor& descriptor = descriptor_in(opaque);
  descriptor.compute = compute;
  descriptor.scale = scale;
  descriptor.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  descriptor.bias_type = descriptor.aux_type = -1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* opaque, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  *opaque = std::make_unique<cublasLtMatmulDescOpaque_t>().release();
  return cublasLtMatmulDescInit_internal(*opaque, sizeof **opaque, compute, scale);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t opaque) {
  const std::unique_ptr<cublasLtMatmulDescOpaque_t> owner(opaque);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t opaque,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return field_of(descriptor_in(opaque), attribute).set(value, bytes);
}

cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t opaque,
                                              cublasLtMatmulDescAttributes_t attribute, void* value,
                                              size_t bytes, size_t* written) {
  return field_of(descriptor_in(opaque), attribute).get(value, bytes, written);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t opaque, size_t,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t leading_dimension) {
  *opaque = {};
  layout_in(opaque) = {.type = type,
                       .order = CUBLASLT_ORDER_COL,
                       .rows = rows,
                       .columns = columns,
                       .leading_dimension = leading_dimension,
                       .batch_stride = 0,
                       .batch_count = 1};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* opaque, cudaDataType type,
                                          uint64_t rows, uint64_t columns,
                                          int64_t leading_dimension) {
  *opaque = std::make_unique<cublasLtMatrixLayoutOpaque_t>().release();
  return cublasLtMatrixLayoutInit_internal(*opaque, sizeof **opaque, type, rows, columns,
                                           leading_dimension);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t opaque) {
  const std::unique_ptr<cublasLtMatrixLayoutOpaque_t> owner(opaque);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t opaque,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  return field_of(layout_in(opaque), attribute).set(value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t opaque,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                void* value, size_t bytes, size_t* written) {
  return field_of(layout_in(opaque), attribute).get(value, bytes, written);
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t) {
  *preference = {};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = std::make_unique<cublasLtMatmulPreferenceOpaque_t>().release();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t> owner(preference);
  return CUBLAS_STATUS_SUCCESS;
}

// The one algorithm there is suits every preference.
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t,
                                                    const void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  *found = 0;
  if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  // The heuristic sees no pointers, so a missing bias is none of its business.
  Product product{.how = descriptor_in(descriptor),
                  .a_layout = layout_in(a),
                  .b_layout = layout_in(b),
                  .c_layout = layout_in(c),
                  .d_layout = layout_in(d)};
  product.how.bias = product.how.aux = &product;
  if (const cublasStatus_t status = product.check()) return status;
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].wavesCount = 1;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t descriptor, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void*,
                              size_t, cudaStream_t stream) {
  const Product product{.how = descriptor_in(descriptor),
                        .alpha = *static_cast<const float*>(alpha),
                        .beta = *static_cast<const float*>(beta),
                        .a = a,
                        .b = b,
                        .c = c,
                        .d = d,
                        .a_layout = layout_in(a_layout),
                        .b_layout = layout_in(b_layout),
                        .c_layout = layout_in(c_layout),
                        .d_layout = layout_in(d_layout)};
  if (const cublasStatus_t status = product.check()) return status;
  enqueue(stream, WorkKind::product, product);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"

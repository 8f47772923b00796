// cuBLASLt's product: operands widened to floats, a CPU BLAS, and the epilogue.
#include <cblas.h>
#include <cuda_bf16.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include "tests/cuda_on_cpu/blas_descriptors.h"
#include "tests/cuda_on_cpu/device_memory.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr int kReluBit = CUBLASLT_EPILOGUE_RELU, kBiasBit = CUBLASLT_EPILOGUE_BIAS;
constexpr int kGeluBit = CUBLASLT_EPILOGUE_GELU, kAuxBit = 128;

bool has(const MatmulDescriptor& how, int bit) {
  return (how.epilogue & bit) != 0;
}

bool supported(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16BF;
}

bool supported(cublasLtEpilogue_t epilogue) {
  switch (epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB:
      return true;
    default:
      return false;
  }
}

std::size_t bytes_of(cudaDataType type) {
  return type == CUDA_R_16BF ? 2 : 4;
}

float load(const void* data, cudaDataType type, std::int64_t index) {
  return type == CUDA_R_16BF ? __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index])
                             : static_cast<const float*>(data)[index];
}

void store(void* data, cudaDataType type, std::int64_t index, float value) {
  if (type == CUDA_R_16BF) {
    static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16(value);
  } else {
    static_cast<float*>(data)[index] = value;
  }
}

// To the nearest float with the ten bits of mantissa that tf32 has.
float round_to_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (!std::isfinite(value)) return value;
  return std::bit_cast<float>((bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu);
}

// A matrix by columns without gaps.
struct Floats {
  std::int64_t rows;
  std::int64_t columns;
  std::vector<float> values;

  Floats(std::int64_t rows_, std::int64_t columns_)
      : rows(rows_), columns(columns_), values(static_cast<std::size_t>(rows * columns)) {}
  float& at(std::int64_t row, std::int64_t column) { return values[row + column * rows]; }
};

const void* batch_of(const void* data, const MatrixLayout& layout, std::int64_t batch) {
  const auto offset =
      batch * layout.batch_stride * static_cast<std::int64_t>(bytes_of(layout.type));
  return static_cast<const std::byte*>(data) + offset;
}

Floats widened(const void* data, const MatrixLayout& layout, bool transpose, bool tf32) {
  const auto rows = static_cast<std::int64_t>(layout.rows);
  const auto columns = static_cast<std::int64_t>(layout.columns);
  Floats result(transpose ? columns : rows, transpose ? rows : columns);
  for (std::int64_t column = 0; column < columns; ++column) {
    for (std::int64_t row = 0; row < rows; ++row) {
      float value = load(data, layout.type, layout.offset(row, column));
      if (tf32) value = round_to_tf32(value);
      (transpose ? result.at(column, row) : result.at(row, column)) = value;
    }
  }
  return result;
}

float gelu(float x) {
  constexpr float kSqrt2OverPi = 0.7978845608f, kCubic = 0.044715f;
  return 0.5f * x * (1.0f + std::tanh(kSqrt2OverPi * (x + kCubic * x * x * x)));
}

void finish(const Product& product, std::int64_t batch, Floats& result) {
  const MatmulDescriptor& how = product.how;
  const cudaDataType type = product.d_layout.type;  // that of bias and auxiliary output too
  void* d = const_cast<void*>(batch_of(product.d, product.d_layout, batch));
  for (std::int64_t column = 0; column < result.columns; ++column) {
    for (std::int64_t row = 0; row < result.rows; ++row) {
      float value = result.at(row, column);
      if (has(how, kBiasBit)) value += load(how.bias, type, batch * how.bias_batch_stride + row);
      if (has(how, kAuxBit)) {
        store(how.aux, type,
              batch * how.aux_batch_stride + row + column * how.aux_leading_dimension, value);
      }
      if (has(how, kGeluBit)) value = gelu(value);
      if (has(how, kReluBit)) value = value > 0.0f ? value : 0.0f;
      store(d, type, product.d_layout.offset(row, column), value);
    }
  }
}

// For BGRADA the sums of op(a) over k, for BGRADB those of op(b): where the product is a weight's
// gradient, one of these is that of the bias.
void sum_operand(const Product& product, std::int64_t batch, Floats& a, Floats& b) {
  const bool of_a = product.how.epilogue == CUBLASLT_EPILOGUE_BGRADA;
  if (!of_a && product.how.epilogue != CUBLASLT_EPILOGUE_BGRADB) return;
  const std::int64_t size = of_a ? a.rows : b.columns;
  for (std::int64_t i = 0; i < size; ++i) {
    float sum = 0.0f;
    for (std::int64_t k = 0; k < a.columns; ++k) sum += of_a ? a.at(i, k) : b.at(k, i);
    store(product.how.bias, product.d_layout.type, batch * product.how.bias_batch_stride + i, sum);
  }
}

void multiply(const Product& product, std::int64_t batch) {
  const MatmulDescriptor& how = product.how;
  const bool tf32 = how.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  Floats a = widened(batch_of(product.a, product.a_layout, batch), product.a_layout,
                     how.transpose_a != CUBLAS_OP_N, tf32);
  Floats b = widened(batch_of(product.b, product.b_layout, batch), product.b_layout,
                     how.transpose_b != CUBLAS_OP_N, tf32);
  // What is multiplied by a beta of 0 is not read: it may be NaN.
  Floats d = product.beta != 0.0f ? widened(batch_of(product.c, product.c_layout, batch),
                                            product.c_layout, false, false)
                                  : Floats(a.rows, b.columns);
  cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(a.rows),
              static_cast<int>(b.columns), static_cast<int>(a.columns), product.alpha,
              a.values.data(), static_cast<int>(a.rows), b.values.data(), static_cast<int>(b.rows),
              product.beta, d.values.data(), static_cast<int>(d.rows));
  sum_operand(product, batch, a, b);
  finish(product, batch, d);
}

bool valid(const MatrixLayout& layout) {
  const auto stored =
      static_cast<std::int64_t>(layout.order == CUBLASLT_ORDER_COL ? layout.rows : layout.columns);
  return layout.rows > 0 && layout.columns > 0 && layout.leading_dimension >= stored &&
         layout.batch_count > 0;
}

bool lies_on_device(const void* data, const MatrixLayout& layout) {
  if (data == nullptr) return true;  // the heuristic has none
  const std::int64_t last = (layout.batch_count - 1) * layout.batch_stride +
                            layout.offset(static_cast<std::int64_t>(layout.rows) - 1,
                                          static_cast<std::int64_t>(layout.columns) - 1);
  return on_device(data, static_cast<std::size_t>(last + 1) * bytes_of(layout.type));
}

}  // namespace

cublasStatus_t Product::check() const {
  const bool types = supported(a_layout.type) && a_layout.type == b_layout.type &&
                     supported(c_layout.type) && c_layout.type == d_layout.type &&
                     (a_layout.type == CUDA_R_16BF || d_layout.type == CUDA_R_32F);
  const bool modes =
      (how.compute == CUBLAS_COMPUTE_32F || how.compute == CUBLAS_COMPUTE_32F_FAST_TF32) &&
      how.scale == CUDA_R_32F && how.pointer_mode == CUBLASLT_POINTER_MODE_HOST &&
      supported(how.epilogue);
  const bool as_output = (how.bias_type < 0 || how.bias_type == d_layout.type) &&
                         (how.aux_type < 0 || how.aux_type == d_layout.type);
  if (!types || !modes || !as_output) return CUBLAS_STATUS_NOT_SUPPORTED;
  const bool ta = how.transpose_a != CUBLAS_OP_N, tb = how.transpose_b != CUBLAS_OP_N;
  const std::uint64_t m = ta ? a_layout.columns : a_layout.rows;
  const std::uint64_t k = ta ? a_layout.rows : a_layout.columns;
  const std::uint64_t n = tb ? b_layout.rows : b_layout.columns;
  const bool shapes = (tb ? b_layout.columns : b_layout.rows) == k && d_layout.rows == m &&
                      d_layout.columns == n && c_layout.rows == m && c_layout.columns == n &&
                      valid(a_layout) && valid(b_layout) && valid(c_layout) && valid(d_layout);
  const bool batches = a_layout.batch_count == d_layout.batch_count &&
                       b_layout.batch_count == d_layout.batch_count &&
                       c_layout.batch_count == d_layout.batch_count;
  const bool gradient =
      how.epilogue == CUBLASLT_EPILOGUE_BGRADA || how.epilogue == CUBLASLT_EPILOGUE_BGRADB;
  const bool extras = ((!has(how, kBiasBit) && !gradient) || how.bias != nullptr) &&
                      (!has(how, kAuxBit) || how.aux != nullptr);
  const bool memory = lies_on_device(a, a_layout) && lies_on_device(b, b_layout) &&
                      lies_on_device(d, d_layout) && (beta == 0.0f || lies_on_device(c, c_layout));
  return shapes && batches && extras && memory ? CUBLAS_STATUS_SUCCESS
                                               : CUBLAS_STATUS_INVALID_VALUE;
}

void Product::operator()() const {
  const DeviceMemoryOpen open;
  for (std::int64_t batch = 0; batch < d_layout.batch_count; ++batch) multiply(*this, batch);
}

}  // namespace longscan::cuda_on_cpu

// Products by cuBLASLt with random operands, and what they should be, in double.
#pragma once

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {

struct Case {
  std::int64_t m = 5, n = 7, k = 11;
  bool transpose_a = false, transpose_b = false;
  cudaDataType in = CUDA_R_32F, out = CUDA_R_32F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  float alpha = 1.0f, beta = 0.0f;
  int batches = 1;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  std::int64_t gap = 3;  // behind each column
};

inline float rounded(float value, cudaDataType type) {
  return type == CUDA_R_16BF ? __bfloat162float(__float2bfloat16(value)) : value;
}

// A matrix of every batch in the device's memory, and its values.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns, cudaDataType type, int batches, std::int64_t gap)
      : type_(type),
        leading_(rows + gap),
        stride_(leading_ * columns + 5),
        values_(static_cast<std::size_t>(stride_ * batches)) {
    static std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (float& value : values_) value = rounded(normal(random), type);
    bytes_ = std::make_unique<DeviceArray<std::byte>>(encoded(values_, type));
    cublasLtMatrixLayoutCreate(&layout_, type, static_cast<std::uint64_t>(rows),
                               static_cast<std::uint64_t>(columns), leading_);
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batches);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride_);
  }
  ~Matrix() { cublasLtMatrixLayoutDestroy(layout_); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t attribute, T value) {
    EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(layout_, attribute, &value, sizeof value),
              CUBLAS_STATUS_SUCCESS);
  }
  std::int64_t index(int batch, std::int64_t row, std::int64_t column) const {
    return batch * stride_ + column * leading_ + row;
  }
  double at(int batch, std::int64_t row, std::int64_t column) const {
    return values_[index(batch, row, column)];
  }
  std::vector<float> found() const { return decoded(bytes_->values(), type_); }
  void* data() const { return bytes_->get(); }
  cublasLtMatrixLayout_t layout() const { return layout_; }

  static std::vector<std::byte> encoded(const std::vector<float>& values, cudaDataType type) {
    std::vector<std::byte> bytes(values.size() * (type == CUDA_R_16BF ? 2 : 4));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (type == CUDA_R_16BF) {
        reinterpret_cast<__nv_bfloat16*>(bytes.data())[i] = __float2bfloat16(values[i]);
      } else {
        reinterpret_cast<float*>(bytes.data())[i] = values[i];
      }
    }
    return bytes;
  }
  static std::vector<float> decoded(const std::vector<std::byte>& bytes, cudaDataType type) {
    std::vector<float> values(bytes.size() / (type == CUDA_R_16BF ? 2 : 4));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = type == CUDA_R_16BF
                      ? __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(bytes.data())[i])
                      : reinterpret_cast<const float*>(bytes.data())[i];
    }
    return values;
  }

 private:
  cudaDataType type_;
  std::int64_t leading_;
  std::int64_t stride_;
  std::vector<float> values_;
  std::unique_ptr<DeviceArray<std::byte>> bytes_;
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// A product with its operands, the bias and what a GELU keeps.
struct Multiplication {
  explicit Multiplication(const Case& what)
      : how(what),
        a(what.transpose_a ? what.k : what.m, what.transpose_a ? what.m : what.k, what.in,
          what.batches, what.gap),
        b(what.transpose_b ? what.n : what.k, what.transpose_b ? what.k : what.n, what.in,
          what.batches, what.gap),
        d(what.m, what.n, what.out, what.batches, what.gap),
        bias(std::max(what.m, what.n), 1, what.out, 1, 0),
        aux(what.m, what.n, what.out, what.batches, what.gap) {
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&descriptor, what.compute, CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_TRANSA, what.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, what.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, what.epilogue);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data());
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.data());
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, what.m + what.gap);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, aux.index(1, 0, 0));
  }
  ~Multiplication() {
    cublasLtMatmulDescDestroy(descriptor);
    cublasLtDestroy(handle);
  }
  Multiplication(const Multiplication&) = delete;
  Multiplication& operator=(const Multiplication&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    EXPECT_EQ(cublasLtMatmulDescSetAttribute(descriptor, attribute, &value, sizeof value),
              CUBLAS_STATUS_SUCCESS);
  }
  cublasStatus_t heuristic(int* found) {
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulPreferenceCreate(&preference);
    cublasLtMatmulHeuristicResult_t result;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, descriptor, a.layout(), b.layout(), d.layout(),
                                       d.layout(), preference, 1, &result, found);
    cublasLtMatmulPreferenceDestroy(preference);
    return status;
  }
  cublasStatus_t operator()(cudaStream_t stream = nullptr) {
    return cublasLtMatmul(handle, descriptor, &how.alpha, a.data(), a.layout(), b.data(),
                          b.layout(), &how.beta, d.data(), d.layout(), d.data(), d.layout(),
                          nullptr, nullptr, 0, stream);
  }
  double product(int batch, std::int64_t row, std::int64_t column) const {
    double sum = 0;
    for (std::int64_t k = 0; k < how.k; ++k) {
      sum += (how.transpose_a ? a.at(batch, k, row) : a.at(batch, row, k)) *
             (how.transpose_b ? b.at(batch, column, k) : b.at(batch, k, column));
    }
    return how.alpha * sum + (how.beta != 0 ? how.beta * d.at(batch, row, column) : 0);
  }
  template <class Expected>
  void expect(const Matrix& matrix, double tolerance, Expected expected) const {
    const std::vector<float> found = matrix.found();
    for (int batch = 0; batch < how.batches; ++batch) {
      for (std::int64_t column = 0; column < how.n; ++column) {
        for (std::int64_t row = 0; row < how.m; ++row) {
          const double value = expected(product(batch, row, column), row);
          ASSERT_NEAR(found[matrix.index(batch, row, column)], value,
                      tolerance * (1 + std::abs(value)));
        }
        // What lies between the columns is nobody's.
        for (std::int64_t row = how.m; row < how.m + how.gap; ++row) {
          ASSERT_EQ(found[matrix.index(batch, row, column)], matrix.at(batch, row, column));
        }
      }
    }
  }

  Case how;
  Matrix a, b, d, bias, aux;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t descriptor = nullptr;
};

}  // namespace longscan::cuda_on_cpu

// cuBLASLt's products against the triple loop in double.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/cuda_on_cpu/blas_case.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr double kFloat = 1e-5, kBf16 = 1e-2, kTf32 = 1e-2;

double same(double value, std::int64_t) {
  return value;
}
double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

TEST(Blas, ProductIsTheTripleLoop) {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      for (const int batches : {1, 3}) {
        Case how{.transpose_a = transpose_a, .transpose_b = transpose_b, .batches = batches};
        Multiplication floats(how);
        ASSERT_EQ(floats(), CUBLAS_STATUS_SUCCESS);
        floats.expect(floats.d, kFloat, same);
        how.in = CUDA_R_16BF;
        Multiplication widening(how);
        ASSERT_EQ(widening(), CUBLAS_STATUS_SUCCESS);
        widening.expect(widening.d, kFloat, same);
        how.out = CUDA_R_16BF;
        Multiplication halves(how);
        ASSERT_EQ(halves(), CUBLAS_STATUS_SUCCESS);
        halves.expect(halves.d, kBf16, same);
      }
    }
  }
}

TEST(Blas, ProductIsScaledAndAdded) {
  Multiplication run({.m = 33, .n = 1, .k = 2, .alpha = -0.5f, .beta = 2.0f});
  ASSERT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  run.expect(run.d, kFloat, same);
}

TEST(Blas, Tf32IsCoarserThanFloat) {
  const Case how{.m = 20, .n = 20, .k = 64, .compute = CUBLAS_COMPUTE_32F_FAST_TF32};
  Multiplication run(how);
  ASSERT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  run.expect(run.d, kTf32, same);
  double worst = 0;
  const std::vector<float> found = run.d.found();
  for (int i = 0; i < 20; ++i) {
    worst = std::max(worst, std::abs(found[run.d.index(0, i, i)] - run.product(0, i, i)));
  }
  EXPECT_GT(worst, 1e-4);
}

TEST(Blas, EpiloguesAddTheBiasAndApplyGelu) {
  for (const cudaDataType type : {CUDA_R_32F, CUDA_R_16BF}) {
    const double tolerance = type == CUDA_R_16BF ? kBf16 : kFloat;
    Case how{.in = type, .out = type, .batches = 2, .epilogue = CUBLASLT_EPILOGUE_BIAS};
    Multiplication biased(how);
    const auto with_bias = [](const Multiplication& run) {
      return [&run](double value, std::int64_t row) { return value + run.bias.at(0, row, 0); };
    };
    const auto then_gelu = [](auto before) {
      return [before](double value, std::int64_t row) { return gelu(before(value, row)); };
    };
    ASSERT_EQ(biased(), CUBLAS_STATUS_SUCCESS);
    biased.expect(biased.d, tolerance, with_bias(biased));
    how.epilogue = CUBLASLT_EPILOGUE_GELU_BIAS;
    Multiplication activated(how);
    ASSERT_EQ(activated(), CUBLAS_STATUS_SUCCESS);
    activated.expect(activated.d, tolerance, then_gelu(with_bias(activated)));
    how.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    Multiplication kept(how);
    ASSERT_EQ(kept(), CUBLAS_STATUS_SUCCESS);
    kept.expect(kept.d, tolerance, then_gelu(with_bias(kept)));
    kept.expect(kept.aux, tolerance, with_bias(kept));
  }
}

TEST(Blas, EpiloguesSumTheOperands) {
  Multiplication of_a({.transpose_a = true, .epilogue = CUBLASLT_EPILOGUE_BGRADA});
  ASSERT_EQ(of_a(), CUBLAS_STATUS_SUCCESS);
  of_a.expect(of_a.d, kFloat, same);
  Multiplication of_b({.epilogue = CUBLASLT_EPILOGUE_BGRADB});
  ASSERT_EQ(of_b(), CUBLAS_STATUS_SUCCESS);
  const std::vector<float> a_sums = of_a.bias.found(), b_sums = of_b.bias.found();
  for (std::int64_t i = 0; i < of_a.how.m; ++i) {
    double sum = 0;
    for (std::int64_t k = 0; k < of_a.how.k; ++k) sum += of_a.a.at(0, k, i);
    EXPECT_NEAR(a_sums[i], sum, kFloat);
  }
  for (std::int64_t i = 0; i < of_b.how.n; ++i) {
    double sum = 0;
    for (std::int64_t k = 0; k < of_b.how.k; ++k) sum += of_b.b.at(0, k, i);
    EXPECT_NEAR(b_sums[i], sum, kFloat);
  }
}

TEST(Blas, RowsMayComeFirst) {
  Multiplication run({.m = 6, .n = 6, .k = 6});
  for (Matrix* matrix : {&run.a, &run.b, &run.d}) {
    matrix->set(CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_ROW);
  }
  ASSERT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  const std::vector<float> found = run.d.found();
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t column = 0; column < 6; ++column) {
      double sum = 0;
      for (std::int64_t k = 0; k < 6; ++k) sum += run.a.at(0, k, row) * run.b.at(0, column, k);
      EXPECT_NEAR(found[run.d.index(0, column, row)], sum, kFloat);
    }
  }
}

TEST(Blas, HeuristicHasAnAlgorithmForWhatThereIs) {
  int found = 0;
  EXPECT_EQ(Multiplication({}).heuristic(&found), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(found, 1);
  EXPECT_EQ(Multiplication({.epilogue = CUBLASLT_EPILOGUE_DRELU}).heuristic(&found),
            CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(found, 0);
}

TEST(Blas, RefusesWhatDoesNotFit) {
  Multiplication run({});
  EXPECT_EQ(run(), CUBLAS_STATUS_SUCCESS);
  run.a.set(CUBLASLT_MATRIX_LAYOUT_ROWS, std::uint64_t{6});
  EXPECT_EQ(run(), CUBLAS_STATUS_INVALID_VALUE);
  Multiplication short_columns({});
  short_columns.d.set(CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{4});
  EXPECT_EQ(short_columns(), CUBLAS_STATUS_INVALID_VALUE);
  Multiplication beyond({});
  beyond.b.set(CUBLASLT_MATRIX_LAYOUT_LD, std::int64_t{100});
  EXPECT_EQ(beyond(), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(Multiplication({.in = CUDA_R_16F})(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST(Blas, ProductIsPartOfAGraph) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  Multiplication run({.beta = 1.0f});
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ASSERT_EQ(run(stream), CUBLAS_STATUS_SUCCESS);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(run.d.found()[0], static_cast<float>(run.d.at(0, 0, 0)));
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  run.expect(run.d, kFloat, same);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

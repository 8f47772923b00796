// Problems, and the algorithms that cuBLASLt has for them.
#include "kernels/cuda/blas.h"

#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <source_location>
#include <utility>

#include "kernels/error.h"

namespace longscan {

namespace {

void check_cublas(cublasStatus_t status, const char* call,
                  std::source_location source = std::source_location::current()) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::internal,
              {.what = fmt::format("{} failed", call), .why = cublasLtGetStatusString(status)},
              source);
}

#define CUBLAS_CHECK(call) check_cublas((call), #call)

template <auto destroy>
struct Destroy {
  template <class Handle>
  void operator()(Handle* handle) const {
    destroy(handle);
  }
};
using Context = std::unique_ptr<cublasLtContext, Destroy<cublasLtDestroy>>;
using Description = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy<cublasLtMatmulPreferenceDestroy>>;

cudaDataType_t cuda_type(DType dtype) {
  if (dtype == DType::f32) return CUDA_R_32F;
  if (dtype == DType::bf16) return CUDA_R_16BF;
  throw Error(ErrorKind::internal, {.what = fmt::format("a product of {}", name_of(dtype)),
                                    .why = "the GPU computes in f32 and bf16"});
}

// The largest power of two, up to what cuBLASLt asks about, that an address is a multiple of.
std::uint32_t alignment_of(const void* address) {
  constexpr std::uintptr_t kMost = 256;
  const auto bits = reinterpret_cast<std::uintptr_t>(address) | kMost;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

// A row-major matrix of ours: to cuBLASLt, which counts by columns, its transpose.
struct MatrixKind {
  DType dtype;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t stride;
  std::uint32_t alignment;
  auto operator<=>(const MatrixKind&) const = default;

  explicit MatrixKind(const Tensor& tensor)
      : dtype(tensor.dtype),
        rows(tensor.shape[0]),
        columns(tensor.shape[1]),
        stride(std::max(tensor.stride[0], tensor.shape[1])),  // of a single row it says nothing
        alignment(alignment_of(tensor.data)) {}

  Layout layout() const {
    cublasLtMatrixLayout_t layout = nullptr;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, cuda_type(dtype),
                                            static_cast<std::uint64_t>(columns),
                                            static_cast<std::uint64_t>(rows), stride));
    return Layout(layout);
  }
  std::string name() const {
    return fmt::format("{}[{}, {}] with rows {} apart at a multiple of {} bytes", name_of(dtype),
                       rows, columns, stride, alignment);
  }
};

template <class T>
void set(const Description& description, cublasLtMatmulDescAttributes_t attribute, T value) {
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(description.get(), attribute, &value, sizeof(value)));
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
  CUBLAS_CHECK(
      cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
}

}  // namespace

// All that an algorithm depends on.
struct Blas::Problem {
  MatrixKind out;
  MatrixKind a;
  MatrixKind b;
  bool transpose_a;
  bool transpose_b;
  std::uint32_t bias_alignment;  // 0: there is no bias
  auto operator<=>(const Problem&) const = default;
};

// out^T = op(b)^T op(a)^T: what is row-major to us is its transpose to cuBLASLt, so the operands
// change places and are transposed where they would be anyway.
struct Blas::Plan {
  Description description;
  Layout first;   // b
  Layout second;  // a
  Layout out;
  cublasLtMatmulAlgo_t algorithm{};

  Plan(const Problem& problem, cublasComputeType_t type, const void* bias);
  bool find_algorithm(cublasLtHandle_t context, const Problem& problem, std::uint32_t reductions);
};

struct Blas::Library {
  Context context;
  std::map<Problem, std::unique_ptr<const Plan>> plans;  // null: there is no algorithm
};

Blas::Plan::Plan(const Problem& problem, cublasComputeType_t type, const void* bias)
    : first(problem.b.layout()), second(problem.a.layout()), out(problem.out.layout()) {
  cublasLtMatmulDesc_t created = nullptr;
  CUBLAS_CHECK(cublasLtMatmulDescCreate(&created, type, CUDA_R_32F));
  description.reset(created);
  const auto operation = [](bool transpose) { return transpose ? CUBLAS_OP_T : CUBLAS_OP_N; };
  set(description, CUBLASLT_MATMUL_DESC_TRANSA, operation(problem.transpose_b));
  set(description, CUBLASLT_MATMUL_DESC_TRANSB, operation(problem.transpose_a));
  if (problem.bias_alignment == 0) return;
  set(description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  set(description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);  // whose alignment is looked at
}

bool Blas::Plan::find_algorithm(cublasLtHandle_t context, const Problem& problem,
                                std::uint32_t reductions) {
  cublasLtMatmulPreference_t created = nullptr;
  CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&created));
  const Preference preference(created);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
      static_cast<std::uint64_t>(kWorkspaceBytes));
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, problem.b.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.a.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, problem.out.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, problem.out.alignment);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(context, description.get(), first.get(), second.get(),
                                     out.get(), out.get(), preference.get(), 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
  CUBLAS_CHECK(status);
  if (found == 0 || best.state != CUBLAS_STATUS_SUCCESS) return false;
  algorithm = best.algo;
  return true;
}

Blas::Blas(Buffer workspace, bool tf32)
    : workspace_(std::move(workspace)), tf32_(tf32), library_(std::make_unique<Library>()) {
  cublasLtHandle_t context = nullptr;
  CUBLAS_CHECK(cublasLtCreate(&context));
  library_->context.reset(context);
}

Blas::~Blas() = default;

Blas::Problem Blas::describe_problem(const MatMul& product, const Tensor& bias) const {
  return {.out = MatrixKind(product.out),
          .a = MatrixKind(product.a),
          .b = MatrixKind(product.b),
          .transpose_a = product.transpose_a,
          .transpose_b = product.transpose_b,
          .bias_alignment = bias.present() ? alignment_of(bias.data) : 0};
}

// Null where there is none.
const Blas::Plan* Blas::plan_of(const Problem& problem, const Tensor& bias) {
  std::map<Problem, std::unique_ptr<const Plan>>& plans = library_->plans;
  const auto known = plans.find(problem);
  if (known != plans.end()) return known->second.get();
  // Lines of ever new lengths would fill the memory in time.
  constexpr std::size_t kMostPlans = 4096;
  if (plans.size() >= kMostPlans) plans.clear();

  const bool tf32 = tf32_ && problem.a.dtype == DType::f32;
  auto plan = std::make_unique<Plan>(
      problem, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, bias.data);
  // Where a sum is split, its parts are added in f32 and in order. If nothing else can do it, in
  // any way.
  cublasLtHandle_t context = library_->context.get();
  if (!plan->find_algorithm(context, problem, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) &&
      !plan->find_algorithm(context, problem, CUBLASLT_REDUCTION_SCHEME_MASK)) {
    plan = nullptr;
  }
  return plans.emplace(problem, std::move(plan)).first->second.get();
}

bool Blas::can_multiply(const MatMul& product, const Tensor& bias) {
  return plan_of(describe_problem(product, bias), bias) != nullptr;
}

void Blas::multiply(const MatMul& product, const Tensor& bias, CUstream_st* stream) {
  const Problem problem = describe_problem(product, bias);
  const Plan* known = plan_of(problem, bias);
  if (known == nullptr) {
    throw Error(
        ErrorKind::internal,
        {.what = fmt::format("cuBLASLt cannot multiply {}{} and {}{} into {}{}", problem.a.name(),
                             problem.transpose_a ? ", transposed," : "", problem.b.name(),
                             problem.transpose_b ? ", transposed," : "", problem.out.name(),
                             problem.bias_alignment == 0 ? "" : ", with a bias"),
         .why = "it has no algorithm for these types and alignments on this GPU"});
  }
  const Plan& plan = *known;
  if (bias.present()) {
    set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias.data));
  }
  const float alpha = 1;
  const float beta = product.accumulate ? 1 : 0;
  CUBLAS_CHECK(cublasLtMatmul(library_->context.get(), plan.description.get(), &alpha,
                              product.b.data, plan.first.get(), product.a.data, plan.second.get(),
                              &beta, product.out.data, plan.out.get(), product.out.data,
                              plan.out.get(), &plan.algorithm, workspace_.data(),
                              static_cast<std::size_t>(workspace_.bytes()), stream));
}

}  // namespace longscan

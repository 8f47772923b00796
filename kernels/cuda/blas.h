// Matrix products by cuBLASLt.
#pragma once

#include <memory>

#include "kernels/buffer.h"
#include "kernels/linear.h"

// As CUDA's headers declare it.
struct CUstream_st;

namespace longscan {

/// One a GPU. What cuBLASLt has to say about a problem (shapes, types, alignments) is asked once.
///
/// GELU is not made in epilogues, although cuBLASLt has our form of it (GELU_AUX_BIAS, DGELU).
/// Backward needs what goes into it, so of seven passes over [tokens, hidden] there and back four
/// would remain: at most 3 % of the step of a model of GPT-2 small's shape. For that the two would
/// be one operation on all devices, of fewer algorithms and alignments, whose GELU is that of sums
/// not yet rounded to bf16, and not of the numbers that backward sees.
class Blas {
 public:
  /// Memory of the GPU that products may use; NVIDIA's advice for Hopper.
  static constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;

  /// With `tf32` products of f32 round their operands to TF32.
  Blas(Buffer workspace, bool tf32);
  ~Blas();

  /// A product of matrices with at least one element each. out may be f32 where a and b are bf16.
  /// `bias`, of out's type, is added to every row of out; absent: nothing is, else not together
  /// with `accumulate`.
  void multiply(const MatMul& product, const Tensor& bias, CUstream_st* stream);
  /// Whether multiply can. Without a bias there is something for nearly everything.
  bool can_multiply(const MatMul& product, const Tensor& bias);

 private:
  struct Problem;
  struct Plan;
  struct Library;

  Problem describe_problem(const MatMul& product, const Tensor& bias) const;
  const Plan* plan_of(const Problem& problem, const Tensor& bias);

  Buffer workspace_;
  bool tf32_;
  std::unique_ptr<Library> library_;
};

}  // namespace longscan

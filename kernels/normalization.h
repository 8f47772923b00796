// Normalisation of each token's vector: LayerNorm and RMSNorm in one operation.
#pragma once

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// With a bias (LayerNorm, Ba et al. 2016): out = (in - mean) * rstd * weight + bias,
/// rstd = 1 / sqrt(mean((in - mean)^2) + epsilon).
/// Without (RMSNorm, Zhang and Sennrich 2019): out = in * rstd * weight, rstd = 1 / sqrt(mean(in^2)
/// + epsilon).
struct Normalize {
  Tensor out;        ///< [tokens, width] dense, f32, f64 or bf16
  Tensor rstd;       ///< [tokens], kept for backward
  Tensor mean = {};  ///< [tokens], kept for backward; absent without a bias
  Tensor in;         ///< [tokens, width] dense
  Tensor weight;     ///< [width]
  Tensor bias = {};  ///< [width]; absent: RMSNorm
  double epsilon = 1e-5;
  void check() const;
};
void execute(Cpu&, const Normalize&);
void execute(Cuda&, const Normalize&);

/// d_in += the gradient with respect to `in`; d_weight and d_bias are added to.
struct NormalizeBackward {
  Tensor d_in;      ///< [tokens, width] dense; added to, for it is the residual stream's gradient
  Tensor d_weight;  ///< [width]
  Tensor d_bias = {};  ///< [width]; absent: RMSNorm
  Tensor d_out;        ///< [tokens, width] dense
  Tensor in;           ///< [tokens, width] dense
  Tensor weight;       ///< [width]
  Tensor rstd;         ///< [tokens]
  Tensor mean = {};    ///< [tokens]; absent: RMSNorm
  void check() const;
};
void execute(Cpu&, const NormalizeBackward&);
void execute(Cuda&, const NormalizeBackward&);

}  // namespace longscan

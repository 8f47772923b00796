// Matrix products and what stands around them.
#pragma once

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// out = op(a) op(b), or out += with `accumulate`; op transposes where its flag says so.
struct MatMul {
  Tensor out;  ///< [m, n], f32, f64 or bf16; rows of all operands may have gaps between them
  Tensor a;    ///< [m, k], or [k, m] with transpose_a
  Tensor b;    ///< [k, n], or [n, k] with transpose_b
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  void check() const;
};
void execute(Cpu&, const MatMul&);
void execute(Cuda&, const MatMul&);

/// out = in weight^T + bias.
struct Linear {
  Tensor out;     ///< [tokens, outputs], f32, f64 or bf16; rows may have gaps between them
  Tensor in;      ///< [tokens, inputs]; rows may have gaps between them
  Tensor weight;  ///< [outputs, inputs]
  Tensor bias;    ///< [outputs], or absent
  void check() const;
};
void execute(Cpu&, const Linear&);
void execute(Cuda&, const Linear&);

/// d_weight += d_out^T in; d_bias += the column sums of d_out. (The gradient of `in` is
/// MatMul{d_in, d_out, weight}.)
struct LinearBackwardWeight {
  Tensor d_weight;  ///< [outputs, inputs]
  Tensor d_bias;    ///< [outputs], or absent
  Tensor d_out;     ///< [tokens, outputs]; rows may have gaps between them
  Tensor in;        ///< [tokens, inputs]; rows may have gaps between them
  void check() const;
};
void execute(Cpu&, const LinearBackwardWeight&);
void execute(Cuda&, const LinearBackwardWeight&);

}  // namespace longscan

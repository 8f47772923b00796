// What the optimizer does to one flat buffer of parameters. What a gradient decides stays on its
// device, so that the host need not wait for it.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// out[0] += sum of in^2, in double, in blocks that do not depend on the number of threads.
struct SumOfSquares {
  Tensor out;  ///< [1] f64
  Tensor in;   ///< [count] f32 or f64
  void check() const;
};
void execute(Cpu&, const SumOfSquares&);
void execute(Cuda&, const SumOfSquares&);

/// What makes the gradient of a sum of losses that of their mean, no longer than clip_norm:
/// norm = sqrt(squares) / targets; scale = min(1, clip_norm / norm) / targets. Where the norm is
/// not finite (there are no targets, or they or the gradient are not finite), scale is NaN: a step
/// that AdamW does not take.
struct GradientScale {
  Tensor scale;          ///< [1] f64
  Tensor norm;           ///< [1] f64
  Tensor squares;        ///< [1] f64: the sum of the gradient's squares
  Tensor targets;        ///< [1] f64: how many losses were summed
  double clip_norm = 0;  ///< 0: no clipping
  void check() const;
};
void execute(Cpu&, const GradientScale&);
void execute(Cuda&, const GradientScale&);

/// AdamW (Loshchilov and Hutter 2019, algorithm 2), with g = gradient * gradient_scale:
/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
/// p -= learning_rate * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon) +
/// weight_decay * p). Where gradient_scale is not finite, nothing changes.
struct AdamW {
  Tensor parameter;       ///< [count] f32 or f64
  Tensor first_moment;    ///< [count]
  Tensor second_moment;   ///< [count]
  Tensor gradient;        ///< [count]
  Tensor gradient_scale;  ///< [1] f64
  Tensor rounded = {};    ///< [count] bf16: out, the parameter for products; may be absent
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  std::int64_t step = 1;  ///< counts from 1
  void check() const;
};
void execute(Cpu&, const AdamW&);
void execute(Cuda&, const AdamW&);

}  // namespace longscan

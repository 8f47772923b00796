// What the optimizer does to one flat buffer of parameters.
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

/// AdamW (Loshchilov and Hutter 2019, algorithm 2), with g = gradient * gradient_scale:
/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
/// p -= learning_rate * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon) +
/// weight_decay * p).
struct AdamW {
  Tensor parameter;      ///< [count] f32 or f64
  Tensor first_moment;   ///< [count]
  Tensor second_moment;  ///< [count]
  Tensor gradient;       ///< [count]
  Tensor rounded = {};   ///< [count] bf16: out, the parameter for products; may be absent
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double gradient_scale = 1;
  std::int64_t step = 1;  ///< counts from 1
  void check() const;
};
void execute(Cpu&, const AdamW&);
void execute(Cuda&, const AdamW&);

}  // namespace longscan

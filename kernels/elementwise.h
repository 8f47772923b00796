// Operations that look at one number at a time.
#pragma once

#include "kernels/random.h"
#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// out = value, everywhere.
struct Fill {
  Tensor out;  ///< any shape, dense, f32, f64 or bf16
  double value = 0;
  void check() const;
};
void execute(Cpu&, const Fill&);
void execute(Cuda&, const Fill&);

/// out = in.
struct Copy {
  Tensor out;  ///< up to three dimensions, any type; gaps are allowed in all but the last
  Tensor in;   ///< the same type and shape
  void check() const;
};
void execute(Cpu&, const Copy&);
void execute(Cuda&, const Copy&);

/// out = in, rounded to the nearest, ties to even.
struct Round {
  Tensor out;  ///< [count] bf16
  Tensor in;   ///< [count] f32
  void check() const;
};
void execute(Cpu&, const Round&);
void execute(Cuda&, const Round&);

/// out = a_factor * a + b_factor * b. `out` may be `a` or `b`.
struct Add {
  Tensor out;  ///< [rows, columns], f32, f64 or bf16; rows may have gaps between them
  Tensor a;    ///< [rows, columns]
  Tensor b;    ///< [rows, columns]
  double a_factor = 1;
  double b_factor = 1;
  void check() const;
};
void execute(Cpu&, const Add&);
void execute(Cuda&, const Add&);

enum class ActivationKind { gelu, relu };

/// out = f(in). gelu(x) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of
/// Hendrycks and Gimpel 2016. relu(x) = max(x, 0).
struct Activation {
  Tensor out;  ///< [rows, columns] dense, f32, f64 or bf16
  Tensor in;   ///< [rows, columns] dense
  ActivationKind kind = ActivationKind::gelu;
  void check() const;
};
void execute(Cpu&, const Activation&);
void execute(Cuda&, const Activation&);

/// d_in = d_out * f'(in). `d_in` may be `d_out`.
struct ActivationBackward {
  Tensor d_in;   ///< [rows, columns] dense, f32, f64 or bf16
  Tensor d_out;  ///< [rows, columns] dense
  Tensor in;     ///< [rows, columns] dense
  ActivationKind kind = ActivationKind::gelu;
  void check() const;
};
void execute(Cpu&, const ActivationBackward&);
void execute(Cuda&, const ActivationBackward&);

/// out = silu(gate) * up with in = [gate, up], silu(x) = x * sigmoid(x) (Shazeer 2020, "GLU
/// variants", eq. 6).
struct SwiGlu {
  Tensor out;  ///< [rows, hidden] dense, f32, f64 or bf16
  Tensor in;   ///< [rows, 2 * hidden] dense
  void check() const;
};
void execute(Cpu&, const SwiGlu&);
void execute(Cuda&, const SwiGlu&);

/// The gradient of SwiGlu with respect to gate and up. `d_in` may be `in`.
struct SwiGluBackward {
  Tensor d_in;   ///< [rows, 2 * hidden] dense, f32, f64 or bf16
  Tensor d_out;  ///< [rows, hidden] dense
  Tensor in;     ///< [rows, 2 * hidden] dense
  void check() const;
};
void execute(Cpu&, const SwiGluBackward&);
void execute(Cuda&, const SwiGluBackward&);

/// out = in * m / (1 - rate), m = 0 with probability `rate`, else 1. Element (row, column) draws
/// word (e mod 4) of Philox block e / 4 with e = (first_token + row) * columns + column, so a mask
/// does not depend on the sharding. The key's step is key.step + step[0]: what changes when the
/// operation is repeated lies in the device's memory (Device::replay). Its own backward. `out` may
/// be `in`.
struct Dropout {
  Tensor out;       ///< [tokens, columns] dense, f32, f64 or bf16
  Tensor in;        ///< [tokens, columns] dense
  double rate = 0;  ///< in [0, 1)
  RandomKey key = {};
  Tensor step = {};              ///< [1] i64; absent: 0
  std::int64_t first_token = 0;  ///< global index of row 0
  void check() const;
};
void execute(Cpu&, const Dropout&);
void execute(Cuda&, const Dropout&);

}  // namespace longscan

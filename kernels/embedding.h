// From tokens and positions to vectors.
#pragma once

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// out[t] = table[index[t]], or out[t] += with `accumulate`. An index outside the table throws
/// data, naming it.
struct Embedding {
  Tensor out;    ///< [tokens, width] dense, f32, f64 or bf16
  Tensor table;  ///< [entries, width] dense
  Tensor index;  ///< [tokens] i32 or i64
  bool accumulate = false;
  void check() const;
};
void execute(Cpu&, const Embedding&);
void execute(Cuda&, const Embedding&);

/// d_table[index[t]] += d_out[t], in the order of tokens whatever the number of threads.
struct EmbeddingBackward {
  Tensor d_table;  ///< [entries, width] dense
  Tensor d_out;    ///< [tokens, width] dense
  Tensor index;    ///< [tokens] i32 or i64
  void check() const;
};
void execute(Cpu&, const EmbeddingBackward&);
void execute(Cuda&, const EmbeddingBackward&);

/// out[t, 2i] += sin(p / 10000^(2i/width)), out[t, 2i+1] += cos(same), p = position[t] (Vaswani et
/// al. 2017, 3.5).
struct SinusoidalPositions {
  Tensor out;       ///< [tokens, width] dense, f32, f64 or bf16; width even
  Tensor position;  ///< [tokens] i64
  void check() const;
};
void execute(Cpu&, const SinusoidalPositions&);
void execute(Cuda&, const SinusoidalPositions&);

/// The cosines and sines that `Rotary` uses, once for all layers: with a = p / 10000^(2i/dim),
/// table[t, i] = cos a and table[t, dim/2 + i] = sin a, computed in double.
struct RotaryTable {
  Tensor table;     ///< [tokens, dim] dense, f32 or f64; dim even
  Tensor position;  ///< [tokens] i64
  void check() const;
};
void execute(Cpu&, const RotaryTable&);
void execute(Cuda&, const RotaryTable&);

/// Turns the pairs (x[i], x[i + dim/2]) by their angle, in place (Su et al. 2021, eq. 34, halves
/// instead of neighbours). `inverse` turns back, which is the gradient.
struct Rotary {
  Tensor x;      ///< [tokens, heads, dim], f32, f64 or bf16; gaps between tokens allowed
  Tensor table;  ///< [tokens, dim] of RotaryTable
  bool inverse = false;
  void check() const;
};
void execute(Cpu&, const Rotary&);
void execute(Cuda&, const Rotary&);

}  // namespace longscan

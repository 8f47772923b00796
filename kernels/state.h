// States of linear attention as a monoid: runs of tokens summed up, joined in a fixed order.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// out = carry (or nothing where absent) + the sum of runs[begin .. end). The runs are added in
/// ascending order with `ascending`, else in descending order, after the carry: a prefix is folded
/// from the first rank, a suffix from the last. The caller picks [begin, end) and the carry so that
/// no document border lies between (keep = 0 cuts).
///
/// With `exponent_columns` a state is rows of that many numbers, of which the last is an exponent:
/// such rows x e^a and y e^b join to (x e^(a - c) + y e^(b - c)) e^c with c = max(a, b). A row of
/// nothing has the exponent -infinity.
struct FoldStates {
  Tensor out;    ///< [count] f32 or f64; may be `carry`, but shares no memory with `runs`
  Tensor runs;   ///< [runs, count] dense; absent where begin = end
  Tensor carry;  ///< [count], or absent
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool ascending = true;
  std::int64_t exponent_columns = 0;  ///< 0: plain sums
  void check() const;
};
void execute(Cpu& cpu, const FoldStates& operation);
void execute(Cuda&, const FoldStates&);

}  // namespace longscan

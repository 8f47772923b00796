// The contracts of the fold of states.
#include "kernels/state.h"

namespace longscan {

void FoldStates::check() const {
  require(out.rank == 1, "FoldStates.out", "is [count]");
  const std::int64_t count = out.shape[0];
  if (carry.present()) {
    require_dtype("FoldStates.carry", carry, out.dtype);
    require_shape("FoldStates.carry", carry, {count});
  }
  require(exponent_columns == 0 || (exponent_columns > 1 && count % exponent_columns == 0),
          "FoldStates.exponent_columns", "divides count, and leaves room for a sum");
  require(begin <= end, "FoldStates.begin", "is not behind end");
  if (begin == end) return;
  require_dtype("FoldStates.runs", runs, out.dtype);
  require_shape("FoldStates.runs", runs, {runs.shape[0], count});
  require_dense("FoldStates.runs", runs);
  require(begin >= 0 && end <= runs.shape[0], "FoldStates.end", "lies inside runs");
  require(out.as<char>() + out.bytes() <= runs.as<char>() ||
              runs.as<char>() + runs.bytes() <= out.as<char>() || count == 0,
          "FoldStates.out", "shares no memory with runs");
}

}  // namespace longscan

// The contracts of the loss.
#include "kernels/loss.h"

namespace longscan {

void CrossEntropy::check() const {
  require_float("CrossEntropy.logits", logits);
  require_operand("CrossEntropy.totals", totals, DType::f64, {3});
  require_operand("CrossEntropy.logits", logits, logits.dtype, {logits.shape[0], logits.shape[1]});
  require_operand("CrossEntropy.targets", targets, DType::i32, {logits.shape[0]});
  require(logits.shape[1] > 0, "CrossEntropy.logits", "has at least one column");
}

void MarkBadData::check() const {
  require_operand("MarkBadData.totals", totals, DType::f64, {totals.shape[0]});
}

}  // namespace longscan

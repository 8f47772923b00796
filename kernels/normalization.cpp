// The contracts of normalisation.
#include "kernels/normalization.h"

namespace longscan {

void Normalize::check() const {
  require_float("Normalize.out", out);
  const std::int64_t tokens = out.shape[0];
  const std::int64_t width = out.shape[1];
  const DType sums = sum_type(out.dtype);
  require_operand("Normalize.out", out, out.dtype, {tokens, width});
  require_operand("Normalize.rstd", rstd, sums, {tokens});
  require_operand("Normalize.in", in, out.dtype, {tokens, width});
  require_operand("Normalize.weight", weight, sums, {width});
  require(width > 0, "Normalize.out", "has at least one column");
  require(mean.present() == bias.present(), "Normalize.mean", "is there if and only if bias is");
  if (!bias.present()) return;
  require_operand("Normalize.mean", mean, sums, {tokens});
  require_operand("Normalize.bias", bias, sums, {width});
}

void NormalizeBackward::check() const {
  require_float("NormalizeBackward.d_in", d_in);
  const DType dtype = d_in.dtype;
  const DType sums = sum_type(dtype);
  const std::int64_t tokens = d_in.shape[0];
  const std::int64_t width = d_in.shape[1];
  require_operand("NormalizeBackward.d_in", d_in, dtype, {tokens, width});
  require_operand("NormalizeBackward.d_weight", d_weight, sums, {width});
  require_operand("NormalizeBackward.d_out", d_out, dtype, {tokens, width});
  require_operand("NormalizeBackward.in", in, dtype, {tokens, width});
  require_operand("NormalizeBackward.weight", weight, sums, {width});
  require_operand("NormalizeBackward.rstd", rstd, sums, {tokens});
  require(width > 0, "NormalizeBackward.d_in", "has at least one column");
  require(mean.present() == d_bias.present(), "NormalizeBackward.mean",
          "is there if and only if d_bias is");
  if (!d_bias.present()) return;
  require_operand("NormalizeBackward.mean", mean, sums, {tokens});
  require_operand("NormalizeBackward.d_bias", d_bias, sums, {width});
}

}  // namespace longscan

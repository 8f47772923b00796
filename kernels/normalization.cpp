// The contracts of normalisation.
#include "kernels/normalization.h"

namespace longscan {

void Normalize::check() const {
  require_float("Normalize.out", out);
  const std::int64_t tokens = out.shape[0];
  const std::int64_t width = out.shape[1];
  require_operand("Normalize.out", out, out.dtype, {tokens, width});
  require_operand("Normalize.rstd", rstd, out.dtype, {tokens});
  require_operand("Normalize.in", in, out.dtype, {tokens, width});
  require_operand("Normalize.weight", weight, out.dtype, {width});
  require(width > 0, "Normalize.out", "has at least one column");
  require(mean.present() == bias.present(), "Normalize.mean", "is there if and only if bias is");
  if (!bias.present()) return;
  require_operand("Normalize.mean", mean, out.dtype, {tokens});
  require_operand("Normalize.bias", bias, out.dtype, {width});
}

void NormalizeBackward::check() const {
  require_float("NormalizeBackward.d_in", d_in);
  const DType dtype = d_in.dtype;
  const std::int64_t tokens = d_in.shape[0];
  const std::int64_t width = d_in.shape[1];
  require_operand("NormalizeBackward.d_in", d_in, dtype, {tokens, width});
  require_operand("NormalizeBackward.d_weight", d_weight, dtype, {width});
  require_operand("NormalizeBackward.d_out", d_out, dtype, {tokens, width});
  require_operand("NormalizeBackward.in", in, dtype, {tokens, width});
  require_operand("NormalizeBackward.weight", weight, dtype, {width});
  require_operand("NormalizeBackward.rstd", rstd, dtype, {tokens});
  require(width > 0, "NormalizeBackward.d_in", "has at least one column");
  require(mean.present() == d_bias.present(), "NormalizeBackward.mean",
          "is there if and only if d_bias is");
  if (!d_bias.present()) return;
  require_operand("NormalizeBackward.mean", mean, dtype, {tokens});
  require_operand("NormalizeBackward.d_bias", d_bias, dtype, {width});
}

}  // namespace longscan

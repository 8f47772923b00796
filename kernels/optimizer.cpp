// The contracts of the optimizer.
#include "kernels/optimizer.h"

namespace longscan {

void SumOfSquares::check() const {
  require_float("SumOfSquares.in", in);
  require_operand("SumOfSquares.out", out, DType::f64, {1});
  require_operand("SumOfSquares.in", in, in.dtype, {in.shape[0]});
}

void GradientScale::check() const {
  require_operand("GradientScale.scale", scale, DType::f64, {1});
  require_operand("GradientScale.norm", norm, DType::f64, {1});
  require_operand("GradientScale.squares", squares, DType::f64, {1});
  require_operand("GradientScale.targets", targets, DType::f64, {1});
  require(clip_norm >= 0, "GradientScale.clip_norm", "is not negative");
}

void AdamW::check() const {
  require_float("AdamW.parameter", parameter);
  const std::int64_t count = parameter.shape[0];
  require_operand("AdamW.parameter", parameter, parameter.dtype, {count});
  require_operand("AdamW.first_moment", first_moment, parameter.dtype, {count});
  require_operand("AdamW.second_moment", second_moment, parameter.dtype, {count});
  require_operand("AdamW.gradient", gradient, parameter.dtype, {count});
  require_operand("AdamW.gradient_scale", gradient_scale, DType::f64, {1});
  if (rounded.present()) require_operand("AdamW.rounded", rounded, DType::bf16, {count});
  require(beta1 >= 0 && beta1 < 1, "AdamW.beta1", "lies in [0, 1)");
  require(beta2 >= 0 && beta2 < 1, "AdamW.beta2", "lies in [0, 1)");
  require(step >= 1, "AdamW.step", "counts from 1");
}

}  // namespace longscan

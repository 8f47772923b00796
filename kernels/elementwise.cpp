// The contracts of elementwise operations.
#include "kernels/elementwise.h"

#include <algorithm>
#include <utility>

namespace longscan {

void Fill::check() const {
  require_float("Fill.out", out);
  require_dense("Fill.out", out);
}

void Copy::check() const {
  require_dtype("Copy.in", in, out.dtype);
  require(
      out.present() && in.rank == out.rank && std::equal(in.shape, in.shape + in.rank, out.shape),
      "Copy.in", "has the shape of out");
}

void Round::check() const {
  require_operand("Round.out", out, DType::bf16, {out.shape[0]});
  require_operand("Round.in", in, DType::f32, {out.shape[0]});
}

void Add::check() const {
  require_float("Add.out", out);
  for (const auto& [name, tensor] : {std::pair{"Add.out", out}, {"Add.a", a}, {"Add.b", b}}) {
    require_dtype(name, tensor, out.dtype);
    require_shape(name, tensor, {out.shape[0], out.shape[1]});
  }
}

void Activation::check() const {
  require_float("Activation.out", out);
  require_operand("Activation.out", out, out.dtype, {out.shape[0], out.shape[1]});
  require_operand("Activation.in", in, out.dtype, {out.shape[0], out.shape[1]});
}

void ActivationBackward::check() const {
  require_float("ActivationBackward.d_in", d_in);
  const std::int64_t rows = d_in.shape[0];
  const std::int64_t columns = d_in.shape[1];
  require_operand("ActivationBackward.d_in", d_in, d_in.dtype, {rows, columns});
  require_operand("ActivationBackward.d_out", d_out, d_in.dtype, {rows, columns});
  require_operand("ActivationBackward.in", in, d_in.dtype, {rows, columns});
}

void SwiGlu::check() const {
  require_float("SwiGlu.out", out);
  require_operand("SwiGlu.out", out, out.dtype, {out.shape[0], out.shape[1]});
  require_operand("SwiGlu.in", in, out.dtype, {out.shape[0], 2 * out.shape[1]});
}

void SwiGluBackward::check() const {
  require_float("SwiGluBackward.d_out", d_out);
  const std::int64_t rows = d_out.shape[0];
  const std::int64_t hidden = d_out.shape[1];
  require_operand("SwiGluBackward.d_out", d_out, d_out.dtype, {rows, hidden});
  require_operand("SwiGluBackward.d_in", d_in, d_out.dtype, {rows, 2 * hidden});
  require_operand("SwiGluBackward.in", in, d_out.dtype, {rows, 2 * hidden});
}

void Dropout::check() const {
  require_float("Dropout.out", out);
  require_operand("Dropout.out", out, out.dtype, {out.shape[0], out.shape[1]});
  require_operand("Dropout.in", in, out.dtype, {out.shape[0], out.shape[1]});
  require(rate >= 0 && rate < 1, "Dropout.rate", "lies in [0, 1)");
  if (step.present()) require_operand("Dropout.step", step, DType::i64, {1});
  require(first_token >= 0, "Dropout.first_token", "is not negative");
}

}  // namespace longscan

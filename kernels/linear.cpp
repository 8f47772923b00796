// The contracts of matrix products.
#include "kernels/linear.h"

namespace longscan {

namespace {

void require_float_matrix(const char* operand, const Tensor& tensor, DType dtype, std::int64_t rows,
                          std::int64_t columns) {
  require_dtype(operand, tensor, dtype);
  require_shape(operand, tensor, {rows, columns});
}

}  // namespace

void MatMul::check() const {
  require(out.rank == 2 && a.rank == 2 && b.rank == 2, "MatMul", "multiplies matrices");
  const std::int64_t k = a.shape[transpose_a ? 0 : 1];
  const auto operand = [&](const char* name, const Tensor& tensor, bool transpose,
                           std::int64_t rows, std::int64_t columns) {
    require_float_matrix(name, tensor, out.dtype, transpose ? columns : rows,
                         transpose ? rows : columns);
  };
  operand("MatMul.out", out, false, out.shape[0], out.shape[1]);
  operand("MatMul.a", a, transpose_a, out.shape[0], k);
  operand("MatMul.b", b, transpose_b, k, out.shape[1]);
}

void Linear::check() const {
  MatMul{.out = out, .a = in, .b = weight, .transpose_b = true}.check();
  if (!bias.present()) return;
  require_dtype("Linear.bias", bias, sum_type(out.dtype));
  require_shape("Linear.bias", bias, {out.shape[1]});
}

void LinearBackwardWeight::check() const {
  require(d_weight.rank == 2 && d_out.rank == 2 && in.rank == 2, "LinearBackwardWeight",
          "multiplies matrices");
  const std::int64_t tokens = in.shape[0];
  require_float_matrix("LinearBackwardWeight.d_weight", d_weight, sum_type(in.dtype),
                       d_out.shape[1], in.shape[1]);
  require_float_matrix("LinearBackwardWeight.d_out", d_out, in.dtype, tokens, d_out.shape[1]);
  require_float_matrix("LinearBackwardWeight.in", in, in.dtype, tokens, in.shape[1]);
  if (!d_bias.present()) return;
  require_dtype("LinearBackwardWeight.d_bias", d_bias, d_weight.dtype);
  require_shape("LinearBackwardWeight.d_bias", d_bias, {d_weight.shape[0]});
}

}  // namespace longscan

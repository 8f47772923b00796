// The contracts of embeddings and positions.
#include "kernels/embedding.h"

namespace longscan {

namespace {

void require_index(const char* operand, const Tensor& index, std::int64_t tokens) {
  require(index.dtype == DType::i32 || index.dtype == DType::i64, operand, "is i32 or i64");
  require_operand(operand, index, index.dtype, {tokens});
}

}  // namespace

void Embedding::check() const {
  require_float("Embedding.out", out);
  const std::int64_t width = out.shape[1];
  require_operand("Embedding.out", out, out.dtype, {out.shape[0], width});
  require_operand("Embedding.table", table, out.dtype, {table.shape[0], width});
  require_index("Embedding.index", index, out.shape[0]);
}

void EmbeddingBackward::check() const {
  require_float("EmbeddingBackward.d_out", d_out);
  const std::int64_t width = d_table.shape[1];
  require_operand("EmbeddingBackward.d_table", d_table, sum_type(d_out.dtype),
                  {d_table.shape[0], width});
  require_operand("EmbeddingBackward.d_out", d_out, d_out.dtype, {d_out.shape[0], width});
  require_index("EmbeddingBackward.index", index, d_out.shape[0]);
}

void SinusoidalPositions::check() const {
  require_float("SinusoidalPositions.out", out);
  require_operand("SinusoidalPositions.out", out, out.dtype, {out.shape[0], out.shape[1]});
  require_operand("SinusoidalPositions.position", position, DType::i64, {out.shape[0]});
  require(out.shape[1] % 2 == 0, "SinusoidalPositions.out", "has an even number of columns");
}

void RotaryTable::check() const {
  require_float("RotaryTable.table", table);
  require_operand("RotaryTable.table", table, table.dtype, {table.shape[0], table.shape[1]});
  require_operand("RotaryTable.position", position, DType::i64, {table.shape[0]});
  require(table.shape[1] % 2 == 0, "RotaryTable.table", "has an even number of columns");
}

void Rotary::check() const {
  require_float("Rotary.x", x);
  const std::int64_t dim = x.shape[2];
  require_dtype("Rotary.x", x, x.dtype);
  require_shape("Rotary.x", x, {x.shape[0], x.shape[1], dim});
  require_operand("Rotary.table", table, sum_type(x.dtype), {x.shape[0], dim});
  require(dim % 2 == 0, "Rotary.x", "has an even last dimension");
}

}  // namespace longscan

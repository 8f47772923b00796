// As many columns at a time as a head has dimensions, since that is what its kernels are made for.
#include "model/attention_matrix.h"

#include <algorithm>
#include <cstring>

#include "kernels/elementwise.h"

namespace longscan {

namespace {

void set_to_one(const Tensor& tensor, std::int64_t index) {
  if (tensor.dtype == DType::f32) {
    tensor.as<float>()[index] = 1;
  } else {
    tensor.as<double>()[index] = 1;
  }
}

// Token begin + c has its one in column c, every other token has zeros; alike in all heads.
void write_one_hot(Pass& pass, const Tensor& value, std::int64_t begin, std::int64_t columns) {
  const std::int64_t heads = pass.options.heads;
  const std::int64_t dim = pass.options.head_dim();
  pass.device.run(Fill{.out = value, .value = 0});
  for (std::int64_t column = 0; column < columns; ++column) {
    for (std::int64_t head = 0; head < heads; ++head) {
      set_to_one(value, ((begin + column) * heads + head) * dim + column);
    }
  }
}

// attended: [tokens, heads, dim], of which `columns` are columns of the matrix from `begin` on.
void copy_columns(const Tensor& matrix, const Tensor& attended, std::int64_t begin,
                  std::int64_t columns) {
  const std::int64_t heads = matrix.shape[0];
  const std::int64_t tokens = matrix.shape[1];
  const std::int64_t element = size_of(matrix.dtype);
  const auto* from = attended.as<std::byte>();
  auto* to = matrix.as<std::byte>();
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t head = 0; head < heads; ++head) {
      std::memcpy(to + ((head * tokens + token) * tokens + begin) * element,
                  from + (token * attended.stride[0] + head * attended.stride[1]) * element,
                  static_cast<std::size_t>(columns * element));
    }
  }
}

}  // namespace

Tensor attention_matrix(Pass& pass, const AttentionWeights& weights, const AttentionHeads& heads,
                        const AttentionLink& link) {
  const std::int64_t tokens = pass.tokens();
  const std::int64_t dim = pass.options.head_dim();
  const Tensor matrix = pass.arena.take(pass.options.dtype, {pass.options.heads, tokens, tokens});
  const Arena::Mark mark = pass.arena.mark();
  const Tensor value = pass.take(pass.options.width);
  AttentionKept kept{.attended = pass.take(pass.options.width),
                     .normalizer = pass.take(pass.options.heads)};
  const Arena::Mark block = pass.arena.mark();
  for (std::int64_t begin = 0; begin < tokens; begin += dim) {
    const std::int64_t columns = std::min(dim, tokens - begin);
    write_one_hot(pass, value, begin, columns);
    const AttentionHeads one_hot{heads.query, heads.key, value.split_heads(pass.options.heads)};
    copy_columns(matrix, attend(pass, weights, one_hot, kept, link, [] {}), begin, columns);
    pass.arena.rewind_to(block);
  }
  pass.arena.rewind_to(mark);
  return matrix;
}

}  // namespace longscan

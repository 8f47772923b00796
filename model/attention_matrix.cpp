// As many columns at a time as a head has dimensions, since that is what its kernels are made for.
#include "model/attention_matrix.h"

#include <algorithm>
#include <utility>

#include "kernels/elementwise.h"

namespace longscan {

namespace {

// Rows 0, 1, ... have their ones in columns 0, 1, ..., alike in all heads: [head_dim, width].
Tensor one_hot_rows(Pass& pass) {
  const std::int64_t dim = pass.options.head_dim();
  const Tensor rows = pass.arena.take(pass.options.dtype, {dim, pass.options.width});
  pass.device.run(Fill{.out = rows, .value = 0});
  for (std::int64_t row = 0; row < dim; ++row) {
    for (std::int64_t head = 0; head < pass.options.heads; ++head) {
      const std::int64_t column = head * dim + row;
      pass.device.run(Fill{.out = rows.at(row).rows(column, column + 1), .value = 1});
    }
  }
  return rows;
}

// Tokens [begin, end) have the rows of `one_hot`, all others zeros.
void write_one_hot(Pass& pass, const Tensor& value, const Tensor& one_hot, std::int64_t begin,
                   std::int64_t end) {
  pass.device.run(Fill{.out = value, .value = 0});
  pass.device.run(Copy{.out = value.rows(begin, end), .in = one_hot.rows(0, end - begin)});
}

// [a, b, c] as [b, a, c].
Tensor swapped(Tensor tensor) {
  std::swap(tensor.shape[0], tensor.shape[1]);
  std::swap(tensor.stride[0], tensor.stride[1]);
  return tensor;
}

// Of [tokens, heads, dim].
Tensor heads_of(const Tensor& tensor, HeadRange heads) {
  return swapped(swapped(tensor).rows(heads.begin, heads.end));
}

}  // namespace

Tensor attention_matrix(Pass& pass, const AttentionWeights& weights, const AttentionHeads& heads,
                        const AttentionLink& link, HeadRange shown) {
  const std::int64_t tokens = pass.tokens();
  const std::int64_t dim = pass.options.head_dim();
  const Tensor matrix =
      pass.arena.take(pass.options.dtype, {shown.end - shown.begin, tokens, tokens});
  const Arena::Mark mark = pass.arena.mark();
  const Tensor value = pass.take(pass.options.width);
  const Tensor one_hot = one_hot_rows(pass);
  AttentionKept kept{.attended = pass.take(pass.options.width),
                     .normalizer = pass.take_sums(pass.options.heads)};
  const Arena::Mark block = pass.arena.mark();
  for (std::int64_t begin = 0; begin < tokens; begin += dim) {
    const std::int64_t end = std::min(begin + dim, tokens);
    write_one_hot(pass, value, one_hot, begin, end);
    const AttentionHeads shown_heads{heads.query, heads.key, value.split_heads(pass.options.heads)};
    const Tensor attended = attend(pass, weights, shown_heads, kept, link, [] {});
    pass.device.run(Copy{.out = swapped(matrix.columns(begin, end)),
                         .in = heads_of(attended, shown).columns(0, end - begin)});
    pass.arena.rewind_to(block);
  }
  pass.arena.rewind_to(mark);
  return matrix;
}

}  // namespace longscan

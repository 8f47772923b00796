// A case of exact softmax attention: random operands, and what comes of them by definition in
// double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/softmax_attention.h"
#include "tests/support/reference.h"

namespace longscan::test {

struct SoftmaxShape {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
  /// Where documents begin, ascending, counted from token 0; the first one at 0 or before.
  std::vector<std::int64_t> starts = {0};
  std::int64_t first_token = 0;  ///< the place of token 0 in the line
};

/// Operands of one call. Query, key and value lie beside each other, as a joint projection leaves
/// them, and so do their gradients.
struct SoftmaxCase {
  SoftmaxShape shape;
  bool causal;
  bool masked = false;
  OwnedTensor joint, d_joint, out, d_out, log_sum, d_out_dot, document, mask;

  SoftmaxCase(DType dtype, const SoftmaxShape& s, bool is_causal)
      : shape(s),
        causal(is_causal),
        joint(OwnedTensor::random(dtype, {s.tokens, 3 * s.heads * s.dim}, 1)),
        d_joint(dtype, {s.tokens, 3 * s.heads * s.dim}),
        out(dtype, {s.tokens, s.heads, s.dim}),
        d_out(OwnedTensor::random(dtype, {s.tokens, s.heads, s.dim}, 2)),
        log_sum(dtype, {s.tokens, s.heads}),
        d_out_dot(dtype, {s.tokens, s.heads}),
        document(DType::i64, {s.tokens}),
        mask(DType::u8, {s.tokens}) {
    for (std::int64_t i = 0; i < s.tokens; ++i) {
      document.set(i, static_cast<double>(s.first_token + start_of(i)));
      mask.set(i, i % 3 != 1 ? 1 : 0);
    }
  }

  std::int64_t start_of(std::int64_t token) const {
    return *(std::upper_bound(shape.starts.begin(), shape.starts.end(), token) - 1);
  }
  bool counts(std::int64_t key) const { return !masked || mask.get(key) != 0; }
  bool sees(std::int64_t query, std::int64_t key) const {
    return counts(key) && start_of(query) == start_of(key) && (!causal || key <= query);
  }

  /// Tokens [begin, end) of the case: a block of queries, or of keys.
  struct Piece {
    std::int64_t begin;
    std::int64_t end;
  };
  using Pieces = std::vector<Piece>;
  Pieces whole() const { return {{0, shape.tokens}}; }

  Tensor part(const OwnedTensor& from, std::int64_t index, const Piece& piece) const {
    const std::int64_t width = shape.heads * shape.dim;
    return from.view()
        .rows(piece.begin, piece.end)
        .columns(index * width, (index + 1) * width)
        .split_heads(shape.heads);
  }
  LineBlock block(const Piece& piece) const {
    return {.first_token = shape.first_token + piece.begin,
            .document = document.view().rows(piece.begin, piece.end)};
  }
  SoftmaxQueries queries(const Piece& piece) const {
    return {.query = part(joint, 0, piece), .block = block(piece)};
  }
  SoftmaxKeys keys(const Piece& piece) const {
    return {.key = part(joint, 1, piece),
            .value = part(joint, 2, piece),
            .block = block(piece),
            .key_mask = masked ? mask.view().rows(piece.begin, piece.end) : Tensor{}};
  }
  SoftmaxGradient gradient(const Piece& piece) const {
    return {.d_out = d_out.view().rows(piece.begin, piece.end),
            .log_sum = log_sum.view().rows(piece.begin, piece.end),
            .d_out_dot = d_out_dot.view().rows(piece.begin, piece.end)};
  }

  /// Every block of queries attends to one block of keys after the other. What `out` holds before
  /// is not a number.
  void forward(Device& device) { forward(device, whole(), whole()); }
  void forward(Device& device, const Pieces& query_pieces, const Pieces& key_pieces) {
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, std::nan(""));
    for (std::int64_t i = 0; i < log_sum.size(); ++i) log_sum.set(i, -HUGE_VAL);
    for (const Piece& q : query_pieces) {
      for (const Piece& k : key_pieces) {
        device.run(SoftmaxAttention{.out = out.view().rows(q.begin, q.end),
                                    .log_sum = log_sum.view().rows(q.begin, q.end),
                                    .queries = queries(q),
                                    .keys = keys(k),
                                    .causal = causal});
      }
    }
  }
  void backward(Device& device) { backward(device, whole(), whole()); }
  void backward(Device& device, const Pieces& query_pieces, const Pieces& key_pieces) {
    for (std::int64_t i = 0; i < d_joint.size(); ++i) d_joint.set(i, 0);
    device.run(HeadDot{.dot = d_out_dot, .a = d_out, .b = out});
    for (const Piece& q : query_pieces) {
      for (const Piece& k : key_pieces) {
        device.run(SoftmaxAttentionBackwardQuery{.d_query = part(d_joint, 0, q),
                                                 .queries = queries(q),
                                                 .keys = keys(k),
                                                 .gradient = gradient(q),
                                                 .causal = causal});
        device.run(SoftmaxAttentionBackwardKeyValue{.d_key = part(d_joint, 1, k),
                                                    .d_value = part(d_joint, 2, k),
                                                    .queries = queries(q),
                                                    .keys = keys(k),
                                                    .gradient = gradient(q),
                                                    .causal = causal});
      }
    }
  }

  /// Query (0), key (1) or value (2) of a token.
  std::int64_t index(std::int64_t which, std::int64_t token, std::int64_t head) const {
    return ((3 * token + which) * shape.heads + head) * shape.dim;
  }
  double dot(const OwnedTensor& a, std::int64_t i, const OwnedTensor& b, std::int64_t j) const {
    double sum = 0;
    for (std::int64_t d = 0; d < shape.dim; ++d) sum += a.get(i + d) * b.get(j + d);
    return sum;
  }

  struct Definition {
    std::vector<double> out, log_sum, d_joint;
  };
  /// By the formulas, one query after the other.
  Definition definition() const {
    Definition result{.out = std::vector<double>(static_cast<std::size_t>(out.size())),
                      .log_sum = std::vector<double>(static_cast<std::size_t>(log_sum.size())),
                      .d_joint = std::vector<double>(static_cast<std::size_t>(joint.size()))};
    for (std::int64_t i = 0; i < shape.tokens; ++i) {
      for (std::int64_t head = 0; head < shape.heads; ++head) define_query(result, i, head);
    }
    return result;
  }

  void define_query(Definition& result, std::int64_t i, std::int64_t head) const {
    const double scale = 1 / std::sqrt(static_cast<double>(shape.dim));
    std::vector<double> p(static_cast<std::size_t>(shape.tokens), -HUGE_VAL);
    double highest = -HUGE_VAL;
    for (std::int64_t j = 0; j < shape.tokens; ++j) {
      if (!sees(i, j)) continue;
      double& score = p[static_cast<std::size_t>(j)];
      score = scale * dot(joint, index(0, i, head), joint, index(1, j, head));
      highest = std::max(highest, score);
    }
    double total = 0;
    for (double& x : p) total += x = highest == -HUGE_VAL ? 0 : std::exp(x - highest);
    const std::int64_t row = i * shape.heads + head;
    result.log_sum[static_cast<std::size_t>(row)] = highest + std::log(total);
    double d_out_out = 0;
    for (std::int64_t j = 0; j < shape.tokens; ++j) {
      if (!sees(i, j)) continue;
      p[static_cast<std::size_t>(j)] /= total;
      for (std::int64_t d = 0; d < shape.dim; ++d) {
        result.out[static_cast<std::size_t>(row * shape.dim + d)] +=
            p[static_cast<std::size_t>(j)] * joint.get(index(2, j, head) + d);
      }
    }
    for (std::int64_t d = row * shape.dim; d < (row + 1) * shape.dim; ++d) {
      d_out_out += d_out.get(d) * result.out[static_cast<std::size_t>(d)];
    }
    for (std::int64_t j = 0; j < shape.tokens; ++j) {
      if (!sees(i, j)) continue;
      const double weight = p[static_cast<std::size_t>(j)];
      const double d_weight = dot(d_out, row * shape.dim, joint, index(2, j, head));
      const double slope = scale * weight * (d_weight - d_out_out);
      for (std::int64_t d = 0; d < shape.dim; ++d) {
        const auto add = [&](std::int64_t which, std::int64_t token, double more) {
          result.d_joint[static_cast<std::size_t>(index(which, token, head) + d)] += more;
        };
        add(0, i, slope * joint.get(index(1, j, head) + d));
        add(1, j, slope * joint.get(index(0, i, head) + d));
        add(2, j, weight * d_out.get(row * shape.dim + d));
      }
    }
  }
};

}  // namespace longscan::test

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
        log_sum(sum_type(dtype), {s.tokens, s.heads}),
        d_out_dot(sum_type(dtype), {s.tokens, s.heads}),
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

  /// All tensors, for OnCuda.
  std::vector<const OwnedTensor*> tensors() const {
    return {&joint, &d_joint, &out, &d_out, &log_sum, &d_out_dot, &document, &mask};
  }

  /// Every block of queries attends to one block of keys after the other. What `out` holds before
  /// is not a number. `device`: a Device or OnCuda.
  void forward(auto& device) { forward(device, whole(), whole()); }
  void forward(auto& device, const Pieces& query_pieces, const Pieces& key_pieces) {
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
  void backward(auto& device) { backward(device, whole(), whole()); }
  void backward(auto& device, const Pieces& query_pieces, const Pieces& key_pieces) {
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

  /// Where the query (0), key (1) or value (2) of a token begins in `joint`.
  std::int64_t index(std::int64_t which, std::int64_t token, std::int64_t head) const {
    return ((3 * token + which) * shape.heads + head) * shape.dim;
  }
  struct Definition {
    std::vector<double> out, log_sum, d_joint;
  };
  /// By the formulas, one query after the other.
  Definition definition() const {
    const std::vector<double> x = joint.values();
    const std::vector<double> g = d_out.values();
    Definition result{.out = std::vector<double>(static_cast<std::size_t>(out.size())),
                      .log_sum = std::vector<double>(static_cast<std::size_t>(log_sum.size())),
                      .d_joint = std::vector<double>(static_cast<std::size_t>(joint.size()))};
    for (std::int64_t i = 0; i < shape.tokens; ++i) {
      std::vector<std::int64_t> seen;
      for (std::int64_t j = 0; j < shape.tokens; ++j) {
        if (sees(i, j)) seen.push_back(j);
      }
      for (std::int64_t head = 0; head < shape.heads; ++head) {
        const std::int64_t row = i * shape.heads + head;
        const auto p = define_weights(x.data(), i, head, seen, result.log_sum.data() + row);
        define_row(result, x.data(), g.data() + row * shape.dim, i, head, seen, p);
      }
    }
    return result;
  }

 private:
  double dot_of(const double* a, const double* b) const {
    double sum = 0;
    for (std::int64_t d = 0; d < shape.dim; ++d) sum += a[d] * b[d];
    return sum;
  }

  // p_ij for the keys j that i sees.
  std::vector<double> define_weights(const double* x, std::int64_t i, std::int64_t head,
                                     const std::vector<std::int64_t>& seen,
                                     double* log_sum_i) const {
    std::vector<double> p;
    double highest = -HUGE_VAL;
    for (const std::int64_t j : seen) {
      p.push_back(dot_of(x + index(0, i, head), x + index(1, j, head)) /
                  std::sqrt(static_cast<double>(shape.dim)));
      highest = std::max(highest, p.back());
    }
    double total = 0;
    for (double& each : p) total += each = std::exp(each - highest);
    for (double& each : p) each /= total;
    *log_sum_i = highest + std::log(total);
    return p;
  }

  // What query i gets, g being the gradient of that, and its part of the gradients.
  void define_row(Definition& result, const double* x, const double* g, std::int64_t i,
                  std::int64_t head, const std::vector<std::int64_t>& seen,
                  const std::vector<double>& p) const {
    const std::int64_t dim = shape.dim;
    double* out_i = result.out.data() + (i * shape.heads + head) * dim;
    for (std::size_t n = 0; n < seen.size(); ++n) {
      const double* value = x + index(2, seen[n], head);
      for (std::int64_t d = 0; d < dim; ++d) out_i[d] += p[n] * value[d];
    }
    const auto gradient_at = [&](std::int64_t which, std::int64_t token) {
      return result.d_joint.data() + index(which, token, head);
    };
    for (std::size_t n = 0; n < seen.size(); ++n) {
      const std::int64_t j = seen[n];
      const double slope = p[n] * (dot_of(g, x + index(2, j, head)) - dot_of(g, out_i)) /
                           std::sqrt(static_cast<double>(dim));
      for (std::int64_t d = 0; d < dim; ++d) {
        gradient_at(0, i)[d] += slope * x[index(1, j, head) + d];
        gradient_at(1, j)[d] += slope * x[index(0, i, head) + d];
        gradient_at(2, j)[d] += p[n] * g[d];
      }
    }
  }
};

}  // namespace longscan::test

// A case of Linformer: random operands, and what comes of them by definition in double.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/linformer.h"
#include "tests/support/reference.h"

namespace longscan::test {

/// Whose the projections are: each head has its own E and F, all heads share them, or E = F.
enum class Projections { own, heads, key_value };
inline constexpr Projections kProjections[] = {Projections::own, Projections::heads,
                                               Projections::key_value};

struct LinformerShape {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
  std::int64_t length;  ///< k
  std::int64_t places;  ///< n
  std::vector<std::int64_t> starts;
  std::int64_t first_place = 0;  ///< of token 0: its document began before the shard
};

/// Operands of one call. Query, key and value lie beside each other, as a joint projection leaves
// them, and so do their gradients.
struct LinformerCase {
  LinformerShape shape;
  Projections sharing;
  OwnedTensor joint, d_joint, key_projection, value_projection, d_key_projection,
      d_value_projection, out, d_out, log_sum, position, starts, mask, projected, d_projected;
  bool masked = false;

  LinformerCase(DType dtype, const LinformerShape& s, Projections whose)
      : shape(s),
        sharing(whose),
        joint(OwnedTensor::random(dtype, {s.tokens, 3 * s.heads * s.dim}, 1)),
        d_joint(dtype, {s.tokens, 3 * s.heads * s.dim}),
        key_projection(OwnedTensor::random(dtype, {rows(), s.places}, 2, 0.3)),
        value_projection(OwnedTensor::random(dtype, {rows(), s.places}, 3, 0.3)),
        d_key_projection(sum_type(dtype), {rows(), s.places}),
        d_value_projection(sum_type(dtype), {rows(), s.places}),
        out(dtype, {s.tokens, s.heads, s.dim}),
        d_out(OwnedTensor::random(dtype, {s.tokens, s.heads, s.dim}, 4)),
        log_sum(sum_type(dtype), {s.tokens, s.heads}),
        position(DType::i64, {s.tokens}),
        starts(DType::i64, {std::ssize(s.starts)},
               std::vector<double>(s.starts.begin(), s.starts.end())),
        mask(DType::u8, {s.tokens}),
        projected(sum_type(dtype),
                  {count_documents(s.tokens, starts) * s.heads, s.length, 2 * s.dim}),
        d_projected(sum_type(dtype),
                    {count_documents(s.tokens, starts) * s.heads, s.length, 2 * s.dim}) {
    std::int64_t place = s.first_place;
    for (std::int64_t i = 0; i < s.tokens; ++i) {
      if (starts_at(i)) place = 0;
      position.set(i, static_cast<double>(place++));
      mask.set(i, i % 3 != 1 ? 1 : 0);
    }
  }

  std::int64_t rows() const {
    return (sharing == Projections::own ? shape.heads : 1) * shape.length;
  }
  bool starts_at(std::int64_t i) const {
    return std::find(shape.starts.begin(), shape.starts.end(), i) != shape.starts.end();
  }
  bool counts(std::int64_t i) const { return !masked || mask.get(i) != 0; }
  Tensor part(const OwnedTensor& from, std::int64_t index) const {
    const std::int64_t width = shape.heads * shape.dim;
    return from.view().columns(index * width, (index + 1) * width).split_heads(shape.heads);
  }
  const OwnedTensor& values_with() const {
    return sharing == Projections::key_value ? key_projection : value_projection;
  }

  LinformerKeys keys() const {
    return {.key = part(joint, 1),
            .value = part(joint, 2),
            .key_projection = key_projection,
            .value_projection = values_with(),
            .position = position,
            .document_starts = starts,
            .key_mask = masked ? mask.view() : Tensor{}};
  }
  LinformerQueries queries() const {
    return {.query = part(joint, 0), .projected = projected, .document_starts = starts};
  }
  /// All tensors, for OnCuda.
  std::vector<const OwnedTensor*> tensors() const {
    return {&joint,
            &d_joint,
            &key_projection,
            &value_projection,
            &d_key_projection,
            &d_value_projection,
            &out,
            &d_out,
            &log_sum,
            &position,
            &starts,
            &mask,
            &projected,
            &d_projected};
  }
  /// `device`: a Device or OnCuda.
  void forward(auto& device) const {
    device.run(LinformerProject{.projected = projected, .keys = keys()});
    device.run(LinformerAttend{.out = out, .log_sum = log_sum, .queries = queries()});
  }
  void backward(auto& device) const {
    const LinformerGradient gradient{.d_out = d_out, .out = out, .log_sum = log_sum};
    device.run(LinformerBackwardProjected{
        .d_projected = d_projected, .queries = queries(), .gradient = gradient});
    device.run(LinformerBackwardQuery{
        .d_query = part(d_joint, 0), .queries = queries(), .gradient = gradient});
    device.run(LinformerBackwardKeys{.d_key = part(d_joint, 1),
                                     .d_value = part(d_joint, 2),
                                     .d_key_projection = d_key_projection,
                                     .d_value_projection = sharing == Projections::key_value
                                                               ? d_key_projection
                                                               : d_value_projection,
                                     .keys = keys(),
                                     .d_projected = d_projected});
  }

  /// Query (0), key (1) or value (2) of a token.
  double at(std::int64_t which, std::int64_t token, std::int64_t head, std::int64_t d) const {
    return joint.get((3 * token + which) * shape.heads * shape.dim + head * shape.dim + d);
  }

  /// head = softmax(Q (E K)^T / sqrt(dim)) (F V), document by document.
  std::vector<double> definition() const {
    std::vector<double> result(static_cast<std::size_t>(out.size()));
    for (std::int64_t begin = 0; begin < shape.tokens;) {
      std::int64_t end = begin + 1;
      while (end < shape.tokens && !starts_at(end)) ++end;
      for (std::int64_t head = 0; head < shape.heads; ++head) {
        define_document(result, begin, end, head);
      }
      begin = end;
    }
    return result;
  }

  /// Rows of E K (which = 1) or F V (which = 2) of the document of tokens [begin, end).
  std::vector<std::vector<double>> projected_rows(std::int64_t which, std::int64_t begin,
                                                  std::int64_t end, std::int64_t head) const {
    const OwnedTensor& projection = which == 1 ? key_projection : values_with();
    const std::int64_t row0 = sharing == Projections::own ? head * shape.length : 0;
    std::vector<std::vector<double>> result;
    for (std::int64_t row = row0; row < row0 + shape.length; ++row) {
      result.emplace_back(static_cast<std::size_t>(shape.dim));
      for (std::int64_t j = begin; j < end; ++j) {
        if (!counts(j)) continue;
        const auto place = static_cast<std::int64_t>(position.get(j));
        const double factor = projection.get(row * shape.places + place);
        for (std::int64_t d = 0; d < shape.dim; ++d) {
          result.back()[static_cast<std::size_t>(d)] += factor * at(which, j, head, d);
        }
      }
    }
    return result;
  }

  void define_document(std::vector<double>& result, std::int64_t begin, std::int64_t end,
                       std::int64_t head) const {
    const auto dim = static_cast<std::size_t>(shape.dim);
    const auto keys = projected_rows(1, begin, end, head);
    const auto values = projected_rows(2, begin, end, head);
    for (std::int64_t i = begin; i < end; ++i) {
      std::vector<double> scores;
      for (const std::vector<double>& key : keys) {
        double score = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          score += at(0, i, head, static_cast<std::int64_t>(d)) * key[d];
        }
        scores.push_back(score / std::sqrt(static_cast<double>(dim)));
      }
      const double highest = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& score : scores) total += score = std::exp(score - highest);
      double* row = &result[static_cast<std::size_t>(i * shape.heads + head) * dim];
      for (std::size_t r = 0; r < scores.size(); ++r) {
        for (std::size_t d = 0; d < dim; ++d) row[d] += scores[r] / total * values[r][d];
      }
    }
  }

  /// The sum of out * d_out.
  double defined_loss() const {
    const std::vector<double> outputs = definition();
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      sum += outputs[i] * d_out.get(static_cast<std::int64_t>(i));
    }
    return sum;
  }
};

}  // namespace longscan::test

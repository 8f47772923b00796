// Linear attention by its O(n^2) definition in double, and the tensors of a call of the operations.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/device.h"
#include "kernels/linear_attention.h"
#include "kernels/random.h"

namespace longscan::test {

struct AttentionShape {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
  std::int64_t value_dim;
  std::vector<std::int64_t> starts;
};

struct AttentionForm {
  FeatureKind kind = FeatureKind::elu1;
  bool causal = true;
  bool masked = false;  ///< every third key is attended to by nobody
};

inline std::vector<AttentionForm> all_forms() {
  std::vector<AttentionForm> forms;
  for (const FeatureKind kind : {FeatureKind::elu1, FeatureKind::relu, FeatureKind::favor_softmax,
                                 FeatureKind::favor_hyperbolic, FeatureKind::favor_relu}) {
    for (const bool causal : {true, false}) {
      for (const bool masked : {false, true}) forms.push_back({kind, causal, masked});
    }
  }
  return forms;
}

inline std::string describe(const AttentionForm& form) {
  return "kind " + std::to_string(static_cast<int>(form.kind)) +
         (form.causal ? ", causal" : ", bidirectional") + (form.masked ? ", masked" : "");
}

/// Random operands of one call, as doubles, and what attention makes of them by its definition.
struct AttentionOperands {
  AttentionShape shape;
  AttentionForm form;
  std::int64_t projections;
  std::vector<double> query, key, value, d_out, projection;
  std::vector<std::uint8_t> attended;

  explicit AttentionOperands(AttentionShape s, AttentionForm f = {}, double scale = 1,
                             std::int64_t projection_rows = 21)
      : shape(std::move(s)), form(f), projections(projection_rows) {
    const auto fill = [&](std::vector<double>& values, std::int64_t count, std::uint64_t step,
                          double deviation) {
      for (std::int64_t i = 0; i < count; ++i) {
        values.push_back(deviation * random_normal({1, RandomPurpose::sample, step},
                                                   static_cast<std::uint64_t>(i)));
      }
    };
    const std::int64_t rows = shape.tokens * shape.heads;
    fill(query, rows * shape.dim, 0, scale);
    fill(key, rows * shape.dim, 1, scale);
    fill(value, rows * shape.value_dim, 2, 1);
    fill(d_out, rows * shape.value_dim, 3, 1);
    fill(projection, projections * shape.dim, 4, 1);
    for (std::int64_t i = 0; i < shape.tokens; ++i) {
      attended.push_back(form.masked && i % 3 == 1 ? 0 : 1);
    }
  }

  /// phi(x), of exponential maps its logarithm, without factors that all have in common.
  std::vector<double> features(const double* x) const {
    std::vector<double> phi;
    const auto dim = static_cast<double>(shape.dim);
    const bool exponential =
        form.kind == FeatureKind::favor_softmax || form.kind == FeatureKind::favor_hyperbolic;
    if (form.kind == FeatureKind::elu1 || form.kind == FeatureKind::relu) {
      for (std::int64_t i = 0; i < shape.dim; ++i) {
        const double elu = x[i] > 0 ? x[i] + 1 : std::exp(x[i]);
        phi.push_back(form.kind == FeatureKind::elu1 ? elu : std::max(x[i], 0.0) + 1e-3);
      }
      return phi;
    }
    for (const double sign : {1.0, -1.0}) {
      if (sign < 0 && form.kind != FeatureKind::favor_hyperbolic) break;
      for (std::int64_t f = 0; f < projections; ++f) {
        double product = 0, square = 0;
        for (std::int64_t i = 0; i < shape.dim; ++i) {
          product += projection[f * shape.dim + i] * x[i];
          square += x[i] * x[i];
        }
        phi.push_back(exponential
                          ? sign * product / std::pow(dim, 0.25) - square / std::sqrt(dim) / 2
                          : std::max(product, 0.0) / std::sqrt(static_cast<double>(projections)) +
                                1e-3);
      }
    }
    return phi;
  }

  /// log(phi(q_i) . phi(k_j)) of a head.
  double log_score(std::int64_t head, std::int64_t i, std::int64_t j) const {
    const auto q = features(&query[(i * shape.heads + head) * shape.dim]);
    const auto k = features(&key[(j * shape.heads + head) * shape.dim]);
    double sum = 0, largest = 0;
    if (form.kind == FeatureKind::favor_softmax || form.kind == FeatureKind::favor_hyperbolic) {
      largest = -INFINITY;
      for (std::size_t f = 0; f < q.size(); ++f) largest = std::max(largest, q[f] + k[f]);
      for (std::size_t f = 0; f < q.size(); ++f) sum += std::exp(q[f] + k[f] - largest);
    } else {
      for (std::size_t f = 0; f < q.size(); ++f) sum += q[f] * k[f];
    }
    return largest + std::log(sum);
  }

  /// out of every token, head after head, [tokens, heads, value_dim].
  std::vector<double> definition() const {
    const AttentionShape& s = shape;
    std::vector<double> out(s.tokens * s.heads * s.value_dim);
    for (std::int64_t h = 0; h < s.heads; ++h) {
      for (std::int64_t i = 0; i < s.tokens; ++i) {
        std::vector<std::pair<std::int64_t, double>> scores;
        double largest = -INFINITY, total = 0;
        for (std::int64_t j = document_begin(i); j < (form.causal ? i + 1 : document_end(i)); ++j) {
          if (attended[j] == 0) continue;
          scores.emplace_back(j, log_score(h, i, j));
          largest = std::max(largest, scores.back().second);
        }
        for (auto& [j, score] : scores) total += score = std::exp(score - largest);
        for (const auto& [j, score] : scores) {
          for (std::int64_t d = 0; d < s.value_dim; ++d) {
            out[(i * s.heads + h) * s.value_dim + d] +=
                score / total * value[(j * s.heads + h) * s.value_dim + d];
          }
        }
      }
    }
    return out;
  }

  std::int64_t document_begin(std::int64_t i) const {
    const auto behind = std::upper_bound(shape.starts.begin(), shape.starts.end(), i);
    return behind == shape.starts.begin() ? 0 : behind[-1];
  }
  std::int64_t document_end(std::int64_t i) const {
    const auto behind = std::upper_bound(shape.starts.begin(), shape.starts.end(), i);
    return behind == shape.starts.end() ? shape.tokens : *behind;
  }

  /// Tokens [begin, end) alone.
  AttentionOperands part(std::int64_t begin, std::int64_t end) const {
    AttentionOperands part = *this;
    const auto cut = [&](auto& numbers, std::int64_t row) {
      numbers = {numbers.begin() + begin * row, numbers.begin() + end * row};
    };
    cut(part.query, shape.heads * shape.dim), cut(part.key, shape.heads * shape.dim);
    cut(part.value, shape.heads * shape.value_dim), cut(part.d_out, shape.heads * shape.value_dim);
    cut(part.attended, 1);
    part.shape.tokens = end - begin;
    part.shape.starts.clear();
    for (const std::int64_t start : shape.starts) {
      if (start >= begin && start < end) part.shape.starts.push_back(start - begin);
    }
    return part;
  }
};

/// What a backward needs of other shards.
template <class State>
struct StatesAround {
  State before = {};
  State behind = {};
  State gradients_before = {};
  State gradients_behind = {};
};

/// Device tensors of one call. Query, key and value lie beside each other, as a joint projection
/// leaves them.
template <class T>
struct AttentionTensors {
  Device device;
  std::vector<Buffer> memory;
  std::vector<std::int64_t> starts;
  std::vector<std::uint8_t> attended;
  LinearAttentionInput input;
  Tensor out, normalizer, d_out, d_query, d_key, d_value;

  explicit AttentionTensors(const AttentionOperands& o, int threads = 1)
      : device(Device::cpu(threads)), starts(o.shape.starts), attended(o.attended) {
    const AttentionShape& s = o.shape;
    const Tensor joint = make({s.tokens, s.heads * (2 * s.dim + s.value_dim)});
    const Tensor d_joint = make({s.tokens, s.heads * (2 * s.dim + s.value_dim)});
    const auto part = [&](const Tensor& from, std::int64_t begin, std::int64_t dim) {
      return from.columns(begin, begin + s.heads * dim).split_heads(s.heads);
    };
    input = {.query = part(joint, 0, s.dim),
             .key = part(joint, s.heads * s.dim, s.dim),
             .value = part(joint, 2 * s.heads * s.dim, s.value_dim),
             .document_starts = Tensor::dense(starts.data(), DType::i64, {std::ssize(starts)}),
             .feature_map = {.kind = o.form.kind},
             .causal = o.form.causal};
    if (o.form.masked) {
      input.key_mask = Tensor::dense(attended.data(), DType::u8, {s.tokens});
    }
    if (input.feature_map.has_projection()) {
      input.feature_map.projection = make({o.projections, s.dim});
      std::copy(o.projection.begin(), o.projection.end(),
                input.feature_map.projection.template as<T>());
    }
    d_query = part(d_joint, 0, s.dim), d_key = part(d_joint, s.heads * s.dim, s.dim);
    d_value = part(d_joint, 2 * s.heads * s.dim, s.value_dim);
    out = make({s.tokens, s.heads, s.value_dim}), d_out = make({s.tokens, s.heads, s.value_dim});
    normalizer = make({s.tokens, s.heads});
    set(input.query, o.query), set(input.key, o.key), set(input.value, o.value);
    set(d_out, o.d_out);
  }

  Tensor make(std::initializer_list<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    memory.push_back(device.allocate(count * static_cast<std::int64_t>(sizeof(T))));
    return Tensor::dense(memory.back().data(), DTypeOf<T>::value, shape);
  }
  Tensor make_state() {
    const FeatureMap& map = input.feature_map;
    return make({input.query.shape[1], map.features(input.query.shape[2]),
                 map.state_columns(input.value.shape[2])});
  }
  static T& at(const Tensor& t, std::int64_t index) {
    const std::int64_t row = t.shape[1] * t.shape[2];
    const std::int64_t inner = index % row;
    return t
        .as<T>()[index / row * t.stride[0] + inner / t.shape[2] * t.stride[1] + inner % t.shape[2]];
  }
  static void set(const Tensor& t, const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) at(t, i) = static_cast<T>(values[i]);
  }
  static std::vector<double> get(const Tensor& t) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < t.size(); ++i) {
      values.push_back(t.rank == 3 ? at(t, i) : t.as<T>()[i]);
    }
    return values;
  }

  LinearAttentionGradient gradient() const { return {d_out, out, normalizer}; }

  void forward(const Tensor& before = {}, const Tensor& behind = {}) {
    device.run(LinearAttention{.out = out,
                               .normalizer = normalizer,
                               .input = input,
                               .state_before = before,
                               .state_behind = behind});
  }
  void backward(const StatesAround<Tensor>& states = {}) {
    device.run(LinearAttentionBackward{.d_query = d_query,
                                       .d_key = d_key,
                                       .d_value = d_value,
                                       .input = input,
                                       .gradient = gradient(),
                                       .state_before = states.before,
                                       .state_behind = states.behind,
                                       .gradients_before = states.gradients_before,
                                       .gradients_behind = states.gradients_behind});
  }
  void run() {
    forward();
    backward();
  }
  Tensor sum(ShardSide side) {
    const Tensor state = make_state();
    device.run(LinearAttentionSum{.state = state, .input = input, .side = side});
    return state;
  }
  Tensor gradient_sum(ShardSide side) {
    const Tensor state = make_state();
    device.run(LinearAttentionGradientSum{
        .state = state, .input = input, .gradient = gradient(), .side = side});
    return state;
  }
};

/// The largest difference relative to the largest number, or to `least` where that is larger (a
/// gradient may be zero altogether); infinity where something is NaN.
inline double worst_relative(const std::vector<double>& got, const std::vector<double>& expected,
                             double least = 1e-3) {
  double largest = least, worst = 0;
  if (got.size() != expected.size()) return INFINITY;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    worst = std::max(worst, std::abs(got[i] - expected[i]));
    if (std::isnan(got[i])) return INFINITY;
  }
  return worst / largest;
}

}  // namespace longscan::test

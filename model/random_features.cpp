// Orthogonal random projections by Gram-Schmidt in double.
#include "model/random_features.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <type_traits>

#include "kernels/bfloat16.h"

namespace longscan {

namespace {

using Row = std::span<double>;

double dot(Row a, Row b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

void scale(Row row, double factor) {
  for (double& number : row) number *= factor;
}

double norm(Row row) {
  return std::sqrt(dot(row, row));
}

// Takes out of `row` what lies along the first `count` rows of `block`, which are orthonormal, and
// gives it length one. This is the Q of a QR decomposition whose R has a positive diagonal, which
// is uniform among rotations (Haar). The Q of LAPACK has the signs of its reflections instead, and
// estimates with it are off by up to 15 %. Twice, because the first time leaves rounding errors
// where rows are nearly parallel.
void orthonormalize(Row row, Row block, std::size_t count) {
  for (int time = 0; time < 2; ++time) {
    for (std::size_t i = 0; i < count; ++i) {
      const Row other = block.subspan(i * row.size(), row.size());
      const double along = dot(row, other);
      for (std::size_t j = 0; j < row.size(); ++j) row[j] -= along * other[j];
    }
  }
  scale(row, 1 / norm(row));
}

template <class T>
T rounded_to(double number) {
  if constexpr (std::is_same_v<T, Bfloat16>) {
    return Bfloat16(static_cast<float>(number));
  } else {
    return static_cast<T>(number);
  }
}

void write_row(const Tensor& out, std::int64_t index, Row row) {
  const auto copy = [&]<class T>(T* to) {
    std::transform(row.begin(), row.end(), to + index * out.shape[1],
                   [](double number) { return rounded_to<T>(number); });
  };
  switch (out.dtype) {
    case DType::f32:
      return copy(out.as<float>());
    case DType::bf16:
      return copy(out.as<Bfloat16>());
    default:
      return copy(out.as<double>());
  }
}

}  // namespace

void draw_projection(const Tensor& out, const RandomKey& key, bool orthogonal, RowNorms norms) {
  require_float("draw_projection.out", out);
  require_operand("draw_projection.out", out, out.dtype, {out.shape[0], out.shape[1]});
  const auto dim = static_cast<std::size_t>(out.shape[1]);
  std::vector<double> directions(dim * dim);
  std::vector<double> scaled(dim);
  for (std::int64_t i = 0; i < out.shape[0]; ++i) {
    const std::size_t place = static_cast<std::size_t>(i) % dim;
    const Row direction = Row(directions).subspan(place * dim, dim);
    for (std::size_t j = 0; j < dim; ++j) {
      direction[j] = random_normal(key, static_cast<std::uint64_t>(i) * dim + j);
    }
    // Also where the direction changes: the lengths of Gaussian vectors are independent of their Q
    // (Bartlett's decomposition).
    double length = norm(direction);
    orthonormalize(direction, directions, orthogonal ? place : 0);
    if (norms == RowNorms::regularized) length = std::sqrt(static_cast<double>(dim));
    std::copy(direction.begin(), direction.end(), scaled.begin());
    scale(scaled, length);
    write_row(out, i, scaled);
  }
}

RandomFeatures::RandomFeatures(const ModelOptions& options, Device& device) : device_(device) {
  std::int64_t numbers = 0;
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    layers_.push_back({.attention = options.attention_of(layer), .projection = {}, .drawn = {}});
    if (!is_favor(layers_.back().attention.kind)) continue;
    numbers += layers_.back().attention.features * options.head_dim();
  }
  memory_ = device.allocate(numbers * size_of(options.dtype));
  std::byte* next = memory_.data();
  for (Layer& layer : layers_) {
    if (!is_favor(layer.attention.kind)) continue;
    layer.projection =
        Tensor::dense(next, options.dtype, {layer.attention.features, options.head_dim()});
    next += layer.projection.bytes();
  }
}

void RandomFeatures::draw(std::uint64_t seed, std::int64_t steps) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    if (!layer.projection.present()) continue;
    const std::int64_t interval = layer.attention.redraw_interval;
    const std::int64_t redraw = interval > 0 ? steps / interval : 0;
    const RandomKey key{seed, RandomPurpose::random_features,
                        static_cast<std::uint64_t>(redraw) << 32 | i};
    if (layer.drawn && layer.drawn->seed == key.seed && layer.drawn->step == key.step) continue;
    Tensor drawn = layer.projection;
    const Buffer memory(drawn.bytes());
    drawn.data = memory.data();
    draw_projection(drawn, key, layer.attention.orthogonal, layer.attention.row_norms);
    device_.upload(layer.projection, drawn.data);
    layer.drawn = key;
  }
}

const Tensor& RandomFeatures::projection(std::int64_t layer) const {
  const Layer& asked = layers_.at(static_cast<std::size_t>(layer));
  require(!asked.projection.present() || asked.drawn, "RandomFeatures",
          "are drawn before they are asked for");
  return asked.projection;
}

}  // namespace longscan

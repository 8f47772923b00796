// The state of one head while a CPU kernel of linear attention works on it.
#pragma once

#include <algorithm>

#include "kernels/cpu/exponents.h"
#include "kernels/cpu/tile_product.h"

namespace longscan::attention {

/// The sizes of one head, padded to whole vectors where a row of them is stored.
struct HeadSizes {
  std::int64_t features;
  std::int64_t value_dim;
  std::int64_t padded_features;
  std::int64_t padded_value_dim;
  bool exponential;

  template <class T>
  static HeadSizes of(std::int64_t features, std::int64_t value_dim, bool exponential) {
    return {features, value_dim, tile::padded<T>(features), tile::padded<T>(value_dim),
            exponential};
  }
  /// From a feature to the next in the layout of the operations.
  std::int64_t packed_columns() const { return value_dim + (exponential ? 2 : 1); }
};

/// sum [features, padded_value_dim], normalizer [padded features] and, of exponential maps,
/// exponent [padded features].
template <class T>
struct HeadState {
  T* sum = nullptr;
  T* normalizer = nullptr;
  T* exponent = nullptr;
  HeadSizes sizes{};

  static std::int64_t count(const HeadSizes& sizes) {
    return sizes.features * sizes.padded_value_dim +
           (sizes.exponential ? 2 : 1) * sizes.padded_features;
  }
  static HeadState in(T* memory, const HeadSizes& sizes) {
    T* normalizer = memory + sizes.features * sizes.padded_value_dim;
    return {memory, normalizer, sizes.exponential ? normalizer + sizes.padded_features : nullptr,
            sizes};
  }

  void clear() {
    std::fill_n(sum, count(sizes), T{0});
    if (exponent) std::fill_n(exponent, sizes.padded_features, exponents::kNone<T>);
  }
  void copy_from(const HeadState& other) { std::copy_n(other.sum, count(sizes), sum); }

  /// From and to the layout of the operations, [features, packed_columns].
  void load(const T* packed) {
    clear();
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      const T* row = packed + f * sizes.packed_columns();
      std::copy_n(row, sizes.value_dim, sum + f * sizes.padded_value_dim);
      normalizer[f] = row[sizes.value_dim];
      if (exponent) exponent[f] = row[sizes.value_dim + 1];
    }
  }
  void store(T* packed) const {
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      T* row = packed + f * sizes.packed_columns();
      std::copy_n(sum + f * sizes.padded_value_dim, sizes.value_dim, row);
      row[sizes.value_dim] = normalizer[f];
      if (exponent) row[sizes.value_dim + 1] = exponent[f];
    }
  }

  /// sum += phi^T rows over `count` tokens.
  void accumulate(const T* phi, const T* rows, std::int64_t count) {
    tile::multiply<T>({sum, sizes.padded_value_dim}, {phi, 1, sizes.padded_features},
                      {rows, sizes.padded_value_dim}, sizes.features, sizes.padded_value_dim, count,
                      true);
  }
  /// normalizer += phi^T weights over `count` tokens; all weights are 1 where they are absent.
  void accumulate_normalizer(const T* phi, const T* weights, std::int64_t count) {
    for (std::int64_t token = 0; token < count; ++token) {
      const T weight = weights ? weights[token] : T{1};
      const T* row = phi + token * sizes.padded_features;
#pragma omp simd
      for (std::int64_t f = 0; f < sizes.features; ++f) normalizer[f] += weight * row[f];
    }
  }

  /// The same state, its exponents raised to `higher` where that is higher; `ratio` gets what each
  /// feature's sums were multiplied by.
  void raise_exponents(const T* higher, T* ratio) {
    raise_normalizer(higher, ratio);
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      if (ratio[f] == T{1}) continue;
      T* row = sum + f * sizes.padded_value_dim;
#pragma omp simd
      for (std::int64_t d = 0; d < sizes.padded_value_dim; ++d) row[d] *= ratio[f];
    }
  }
  /// The same but for `sum`, of which the caller keeps a copy of its own.
  void raise_normalizer(const T* higher, T* ratio) {
#pragma omp simd
    for (std::int64_t f = 0; f < sizes.padded_features; ++f) {
      const T highest = exponent[f] > higher[f] ? exponent[f] : higher[f];
      ratio[f] = exponents::ratio(exponent[f], highest);
      normalizer[f] *= ratio[f];
      exponent[f] = highest;
    }
  }

  /// This += other.
  void join(const HeadState& other) {
    if (!exponent) {
      const std::int64_t numbers = count(sizes);
#pragma omp simd
      for (std::int64_t i = 0; i < numbers; ++i) sum[i] += other.sum[i];
      return;
    }
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      const T highest = std::max(exponent[f], other.exponent[f]);
      const T keep = exponents::ratio(exponent[f], highest);
      const T take = exponents::ratio(other.exponent[f], highest);
      T* row = sum + f * sizes.padded_value_dim;
      const T* theirs = other.sum + f * sizes.padded_value_dim;
#pragma omp simd
      for (std::int64_t d = 0; d < sizes.padded_value_dim; ++d) {
        row[d] = row[d] * keep + theirs[d] * take;
      }
      normalizer[f] = normalizer[f] * keep + other.normalizer[f] * take;
      exponent[f] = highest;
    }
  }
};

}  // namespace longscan::attention

// What one thread works with in the CPU kernels of linear attention: one chunk of one head.
#pragma once

#include "kernels/cpu/carve.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/feature_map.h"
#include "kernels/cpu/head_state.h"
#include "kernels/linear_attention.h"

namespace longscan::attention {

/// How far a feature's exponent may rise within a chunk beyond what the chunk's first key has seen:
/// normalisers of e^-40 and gradients of e^40 are well within fp32.
template <class T>
constexpr T kHighestRise = T{40};

/// Zeros above the diagonal of a tile of scores, for tokens do not see what follows them; what
/// stays gets its row's weight added (nothing where weights are absent).
template <class T>
void keep_lower_triangle(T* tile, std::int64_t count, const T* weights) {
  using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  for (Index row = 0; row < count; ++row) {
    T* values = tile + row * kChunk;
    const T weight = weights ? weights[row] : T{0};
#pragma omp simd
    for (Index column = 0; column < kChunk; ++column) {
      const T kept = values[column] + weight;
      values[column] = column <= row ? kept : T{0};
    }
  }
}

/// Copies `count` rows of one head, padding each with zeros to `stride`; prefetches the rows
/// `ahead` tokens further.
template <class T>
void copy_rows(T* out, std::int64_t stride, HeadView<T> in, std::int64_t begin, std::int64_t count,
               std::int64_t columns, std::int64_t ahead) {
  for (std::int64_t row = 0; row < count; ++row) {
    const T* from = in.row(begin + row);
    T* to = out + row * stride;
    prefetch_row(in.row(begin + row + ahead), columns);
#pragma omp simd
    for (std::int64_t i = 0; i < columns; ++i) to[i] = from[i];
    for (std::int64_t i = columns; i < stride; ++i) to[i] = T{0};
  }
}

/// Scratch memory of one thread. Matrices are [kChunk, features or value_dim padded] unless they
/// say otherwise. Of exponential maps phi_query and phi_key hold exponents until `exponentiate`.
template <class T>
struct Workspace {
  const Features<T>* features = nullptr;
  HeadSizes sizes{};
  HeadState<T> state;
  HeadState<T> near;  // the state as a chunk's exponents need it; of exponential maps only
  T* phi_query = nullptr;
  T* phi_key = nullptr;
  T* d_phi = nullptr;
  T* values = nullptr;
  T* rows = nullptr;           // out or d_value before it is written
  T* scaled = nullptr;         // d_out / normalizer; d_out itself of exponential maps
  T* weight = nullptr;         // [kChunk]: -(d_out . out) / normalizer; -(d_out . out)
  T* offset = nullptr;         // [kChunk]: what the exponents of each query are relative to
  T* scores = nullptr;         // [kChunk, kChunk]
  T* d_scores = nullptr;       // [kChunk, kChunk]
  T* key_columns = nullptr;    // phi_key transposed, [features, kChunk]
  T* value_columns = nullptr;  // values transposed, [value_dim, kChunk]
  T* state_columns = nullptr;  // state.sum transposed, [value_dim, padded features]
  T* projected = nullptr;      // [kChunk, padded dim]
  T* highest = nullptr;        // [padded features]: the largest exponents of keys
  T* ratio = nullptr;          // [padded features]

  static Workspace of(Cpu& cpu, int thread, const Features<T>& features, const HeadSizes& sizes) {
    Workspace space;
    space.features = &features;
    space.sizes = sizes;
    // A transposition reads whole squares of vectors, so the state's rows reach to the padded
    // features.
    const std::int64_t state = sizes.padded_features * (sizes.padded_value_dim + 2);
    const std::int64_t by_features = kChunk * sizes.padded_features;
    const std::int64_t by_values = kChunk * sizes.padded_value_dim;
    const std::int64_t by_dim = kChunk * features.padded_dim();
    const std::int64_t columns = sizes.padded_value_dim * sizes.padded_features;
    Carve<T> carve(cpu.scratch<T>(thread, 2 * Carve<T>::padded(state) + 4 * by_features +
                                              4 * by_values + 2 * kChunk * kChunk + 2 * kChunk +
                                              columns + by_dim +
                                              2 * Carve<T>::padded(sizes.padded_features)));
    space.state = HeadState<T>::in(carve.take(state), sizes);
    space.near = HeadState<T>::in(carve.take(state), sizes);
    for (T** matrix : {&space.phi_query, &space.phi_key, &space.d_phi, &space.key_columns}) {
      *matrix = carve.take(by_features);
    }
    for (T** matrix : {&space.values, &space.rows, &space.scaled, &space.value_columns}) {
      *matrix = carve.take(by_values);
    }
    space.scores = carve.take(kChunk * kChunk);
    space.d_scores = carve.take(kChunk * kChunk);
    space.weight = carve.take(kChunk);
    space.offset = carve.take(kChunk);
    space.state_columns = carve.take(columns);
    space.projected = carve.take(by_dim);
    space.highest = carve.take(sizes.padded_features);
    space.ratio = carve.take(sizes.padded_features);
    return space;
  }

  void map_queries(const Chunk& chunk, const Tensor& query, std::int64_t head) {
    features->map(phi_query, head_view<T>(query, head), chunk.begin, chunk.size(), chunk.ahead,
                  Role::query);
  }
  /// Masked keys have no features.
  void map_keys(const Chunk& chunk, const LinearAttentionInput& input, std::int64_t head) {
    features->map(phi_key, head_view<T>(input.key, head), chunk.begin, chunk.size(), chunk.ahead,
                  Role::key);
    if (!input.key_mask.present()) return;
    const auto* attended = input.key_mask.as<std::uint8_t>() + chunk.begin;
    for (std::int64_t i = 0; i < chunk.size(); ++i) {
      if (attended[i] != 0) continue;
      std::fill_n(phi_key + i * sizes.padded_features, sizes.padded_features,
                  sizes.exponential ? exponents::kNone<T> : T{0});
    }
  }
  void load_values(const Chunk& chunk, const Tensor& value, std::int64_t head) {
    copy_rows(values, sizes.padded_value_dim, head_view<T>(value, head), chunk.begin, chunk.size(),
              sizes.value_dim, chunk.ahead);
  }

  /// highest = the largest exponents of `from` and of the chunk's keys.
  void find_highest(const T* from, std::int64_t count) {
    std::copy_n(from, sizes.padded_features, highest);
    for (std::int64_t i = 0; i < count; ++i) {
      const T* row = phi_key + i * sizes.padded_features;
#pragma omp simd
      for (std::int64_t f = 0; f < sizes.padded_features; ++f) {
        highest[f] = row[f] > highest[f] ? row[f] : highest[f];
      }
    }
  }
  /// Whether `highest` is too far above what the first key of the chunk has seen, itself included.
  bool rises_too_far(std::int64_t count) const {
    std::int64_t first = 0;  // that is not masked
    while (first < count && phi_key[first * sizes.padded_features] == exponents::kNone<T>) ++first;
    if (first == count) return false;
    const T* row = phi_key + first * sizes.padded_features;
    T rise = 0;
#pragma omp simd reduction(max : rise)
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      const T seen = row[f] > state.exponent[f] ? row[f] : state.exponent[f];
      rise = vector_math::larger(highest[f] - seen, rise);
    }
    return rise > kHighestRise<T>;
  }

  /// phi_key = e^(its exponents - reference).
  void exponentiate_keys(const T* reference, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = phi_key + i * sizes.padded_features;
#pragma omp simd
      for (std::int64_t f = 0; f < sizes.padded_features; ++f) {
        row[f] = exponents::ratio(row[f], reference[f]);
      }
    }
  }
  /// offset = each query's largest exponent on top of `exponent`.
  void find_offsets(const T* exponent, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const T* row = phi_query + i * sizes.padded_features;
      T largest = exponents::kNone<T>;
#pragma omp simd reduction(max : largest)
      for (std::int64_t f = 0; f < sizes.padded_features; ++f) {
        largest = vector_math::larger(row[f] + exponent[f], largest);
      }
      offset[i] = exponents::reference(largest);
    }
  }
  /// phi_query = e^(its exponents + exponent - offset).
  void exponentiate_queries(const T* exponent, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      T* row = phi_query + i * sizes.padded_features;
      const T below = offset[i];
#pragma omp simd
      for (std::int64_t f = 0; f < sizes.padded_features; ++f) {
        row[f] = vector_math::exp(row[f] + exponent[f] - below);
      }
    }
  }

  /// scores = tril(phi_q phi_k^T).
  void score(std::int64_t count) {
    tile::transpose(key_columns, kChunk, phi_key, sizes.padded_features, count, sizes.features);
    tile::multiply<T>({scores, kChunk}, {phi_query, sizes.padded_features, 1},
                      {key_columns, kChunk}, count, tile::padded<T>(count), sizes.features, false,
                      tile::Shape::lower_result);
    keep_lower_triangle<T>(scores, count, nullptr);
  }
};

}  // namespace longscan::attention

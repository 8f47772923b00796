// What the CPU kernels of linear attention share: the walk over chunks, the feature map, one head's
// view.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/tile_product.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/linear_attention.h"
#include "kernels/tensor.h"

namespace longscan::attention {

/// Tokens of a chunk. Within a chunk attention is quadratic, between chunks it goes through the
/// state.
constexpr std::int64_t kChunk = 64;

/// A run of tokens of one document, at most kChunk of them.
struct Chunk {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool starts_document = false;
  /// Tokens from here to the walk's next chunk, 0 at its end: what to prefetch.
  std::int64_t ahead = 0;
  std::int64_t size() const { return end - begin; }
};

/// Walks through [begin, end) in chunks that no document border cuts, forwards with `next`,
/// backwards with `previous`.
class ChunkWalk {
 public:
  ChunkWalk(const Tensor& document_starts, std::int64_t begin, std::int64_t end)
      : first_(document_starts.as<std::int64_t>()),
        last_(first_ + document_starts.size()),
        begin_(begin),
        end_(end) {}

  bool next(Chunk& chunk) {
    if (begin_ >= end_) return false;
    const std::int64_t* start = std::lower_bound(first_, last_, begin_);
    chunk.starts_document = start != last_ && *start == begin_;
    if (chunk.starts_document) ++start;
    chunk.begin = begin_;
    chunk.end = std::min(begin_ + kChunk, start != last_ ? std::min(*start, end_) : end_);
    begin_ = chunk.end;
    chunk.ahead = std::min(chunk.size(), end_ - begin_);
    return true;
  }

  bool previous(Chunk& chunk) {
    if (begin_ >= end_) return false;
    const std::int64_t* behind = std::lower_bound(first_, last_, end_);
    const std::int64_t border = behind != first_ ? std::max(behind[-1], begin_) : begin_;
    chunk.end = end_;
    chunk.begin = std::max(end_ - kChunk, border);
    chunk.starts_document = behind != first_ && behind[-1] == chunk.begin;
    end_ = chunk.begin;
    chunk.ahead = -std::min(chunk.size(), end_ - begin_);
    return true;
  }

 private:
  const std::int64_t* first_;
  const std::int64_t* last_;
  std::int64_t begin_;
  std::int64_t end_;
};

/// Rows of one head: element (token, i) is data[token * stride + i].
template <class T>
struct HeadView {
  T* data = nullptr;
  std::int64_t stride = 0;
  T* row(std::int64_t token) const { return data + token * stride; }
};

/// Asks for the row that a walk will read a chunk later. Rows lie far apart, so no hardware
/// prefetcher sees them coming, and their latency is as long as the arithmetic on them.
template <class T>
[[gnu::always_inline]] inline void prefetch_row(const T* row, std::int64_t columns) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (std::int64_t i = 0; i < columns; i += kLine) __builtin_prefetch(row + i, 0, 2);
}

/// The same for a row that will be written.
template <class T>
[[gnu::always_inline]] inline void prefetch_row_to_write(T* row, std::int64_t columns) {
  constexpr std::int64_t kLine = 64 / sizeof(T);
  for (std::int64_t i = 0; i < columns; i += kLine) __builtin_prefetch(row + i, 1, 2);
}

template <class T>
HeadView<T> head_view(const Tensor& tensor, std::int64_t head) {
  return {tensor.as<T>() + head * tensor.stride[1], tensor.stride[0]};
}

/// Where the exponent of elu1 ends: products of two such features are still far above the smallest
/// fp32 number.
template <class T>
constexpr T kLowestExponent = T{-41};

/// phi of `count` rows of x into rows of `stride`; what lies behind the features becomes zero.
/// Prefetches the rows `ahead` tokens further.
template <class T>
void map_features(FeatureMap map, T* phi, std::int64_t stride, HeadView<T> x, std::int64_t begin,
                  std::int64_t count, std::int64_t features, std::int64_t ahead) {
  switch (map) {
    case FeatureMap::elu1:
      for (std::int64_t token = 0; token < count; ++token) {
        const T* in = x.row(begin + token);
        prefetch_row(x.row(begin + token + ahead), features);
        T* out = phi + token * stride;
#pragma omp simd
        for (std::int64_t f = 0; f < features; ++f) {
          // e^x itself: elu(x) + 1 would round to zero below -17 in fp32. NaN stays NaN.
          const T value = in[f];
          const T capped = value > T{0} ? T{0} : value;
          const T small = vector_math::exp_of_negative(
              capped < kLowestExponent<T> ? kLowestExponent<T> : capped);
          out[f] = value > T{0} ? value + T{1} : small;
        }
        std::fill(out + features, out + stride, T{0});
      }
  }
}

/// d_x = d_phi * phi'(x) for `count` rows, from phi alone where the map allows it.
template <class T>
void unmap_features(FeatureMap map, HeadView<T> d_x, std::int64_t begin, const T* d_phi,
                    const T* phi, std::int64_t stride, std::int64_t count, std::int64_t features,
                    std::int64_t ahead) {
  switch (map) {
    case FeatureMap::elu1:
      for (std::int64_t token = 0; token < count; ++token) {
        T* out = d_x.row(begin + token);
        prefetch_row_to_write(d_x.row(begin + token + ahead), features);
        const T* up = d_phi + token * stride;
        const T* value = phi + token * stride;
        // phi' is 1 where phi > 1 and e^x = phi elsewhere.
#pragma omp simd
        for (std::int64_t f = 0; f < features; ++f) {
          out[f] = up[f] * (value[f] < T{1} ? value[f] : T{1});
        }
      }
  }
}

/// The sizes of one head, padded to whole vectors where a row of them is stored.
struct HeadSizes {
  std::int64_t features;
  std::int64_t value_dim;
  std::int64_t padded_features;
  std::int64_t padded_value_dim;

  template <class T>
  static HeadSizes of(std::int64_t features, std::int64_t value_dim) {
    return {features, value_dim, tile::padded<T>(features), tile::padded<T>(value_dim)};
  }
};

/// A state of one head while a kernel works on it: sum [features, padded_value_dim], then
/// normalizer [features].
template <class T>
struct HeadState {
  T* sum = nullptr;
  T* normalizer = nullptr;
  HeadSizes sizes{};

  static std::int64_t count(const HeadSizes& sizes) {
    return sizes.features * sizes.padded_value_dim + sizes.padded_features;
  }
  static HeadState in(T* memory, const HeadSizes& sizes) {
    return {memory, memory + sizes.features * sizes.padded_value_dim, sizes};
  }

  void clear() { std::fill(sum, sum + count(sizes), T{0}); }
  void copy_from(const HeadState& other) { std::copy_n(other.sum, count(sizes), sum); }

  /// From and to the layout of the operations, [features, value_dim + 1].
  void load(const T* packed) {
    clear();
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      const T* row = packed + f * (sizes.value_dim + 1);
      std::copy_n(row, sizes.value_dim, sum + f * sizes.padded_value_dim);
      normalizer[f] = row[sizes.value_dim];
    }
  }
  void store(T* packed) const {
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      T* row = packed + f * (sizes.value_dim + 1);
      std::copy_n(sum + f * sizes.padded_value_dim, sizes.value_dim, row);
      row[sizes.value_dim] = normalizer[f];
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
};

/// Makes one pointer after another out of a block of scratch memory, each 64-byte aligned.
template <class T>
class Carve {
 public:
  explicit Carve(T* memory) : next_(memory) {}
  T* take(std::int64_t count) {
    T* piece = next_;
    next_ += padded(count);
    return piece;
  }
  static std::int64_t padded(std::int64_t count) { return (count + 15) / 16 * 16; }

 private:
  T* next_;
};

}  // namespace longscan::attention

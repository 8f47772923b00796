// What the CPU kernels of linear attention share: the walk over chunks, the feature map, one head's
// view.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/linear_attention.h"
#include "kernels/tensor.h"

namespace longscan::attention {

/// Tokens of a chunk. Within a chunk attention is quadratic, between chunks it goes through the
/// state.
constexpr std::int64_t kChunk = 64;

/// A run of tokens of one document, at most kChunk of them.
struct Chunk {
  std::int64_t begin;
  std::int64_t end;
  bool starts_document;
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

template <class T>
HeadView<T> head_view(const Tensor& tensor, std::int64_t head) {
  return {tensor.as<T>() + head * tensor.stride[1], tensor.stride[0]};
}

/// phi of `count` rows of x, dense [count, features].
template <class T>
void map_features(FeatureMap map, T* phi, HeadView<T> x, std::int64_t begin, std::int64_t count,
                  std::int64_t features) {
  switch (map) {
    case FeatureMap::elu1:
      for (std::int64_t token = 0; token < count; ++token) {
        const T* in = x.row(begin + token);
        T* out = phi + token * features;
#pragma omp simd
        for (std::int64_t f = 0; f < features; ++f) {
          // e^x itself: elu(x) + 1 would round to zero below -17 in fp32.
          const T small = vector_math::exp(std::min(in[f], T{0}));
          out[f] = in[f] > T{0} ? in[f] + T{1} : small;
        }
      }
  }
}

/// d_x = d_phi * phi'(x) for `count` rows, from phi alone where the map allows it.
template <class T>
void unmap_features(FeatureMap map, HeadView<T> d_x, std::int64_t begin, const T* d_phi,
                    const T* phi, std::int64_t count, std::int64_t features) {
  switch (map) {
    case FeatureMap::elu1:
      for (std::int64_t token = 0; token < count; ++token) {
        T* out = d_x.row(begin + token);
        const T* up = d_phi + token * features;
        const T* value = phi + token * features;
        // phi' is 1 where phi > 1 and e^x = phi elsewhere.
#pragma omp simd
        for (std::int64_t f = 0; f < features; ++f) out[f] = up[f] * std::min(value[f], T{1});
      }
  }
}

/// A state of one head while a kernel works on it: sum [features, value_dim] dense, normalizer
/// [features].
template <class T>
struct HeadState {
  T* sum = nullptr;
  T* normalizer = nullptr;
  std::int64_t features = 0;
  std::int64_t value_dim = 0;

  static std::int64_t count(std::int64_t features, std::int64_t value_dim) {
    return features * (value_dim + 1);
  }
  static HeadState in(T* memory, std::int64_t features, std::int64_t value_dim) {
    return {memory, memory + features * value_dim, features, value_dim};
  }

  void clear() { std::fill(sum, sum + count(features, value_dim), T{0}); }

  /// From and to the layout of the operations, [features, value_dim + 1].
  void load(const T* packed) {
    for (std::int64_t f = 0; f < features; ++f) {
      const T* row = packed + f * (value_dim + 1);
      std::copy(row, row + value_dim, sum + f * value_dim);
      normalizer[f] = row[value_dim];
    }
  }
  void store(T* packed) const {
    for (std::int64_t f = 0; f < features; ++f) {
      T* row = packed + f * (value_dim + 1);
      std::copy(sum + f * value_dim, sum + (f + 1) * value_dim, row);
      row[value_dim] = normalizer[f];
    }
  }
  void add(const HeadState& other) {
    const std::int64_t total = count(features, value_dim);
#pragma omp simd
    for (std::int64_t i = 0; i < total; ++i) sum[i] += other.sum[i];
  }

  /// sum += phi^T rows, normalizer += phi^T weights (all ones where `weights` is null), over
  /// `count` tokens.
  void accumulate(const T* phi, const T* rows, std::int64_t row_stride, const T* weights,
                  std::int64_t count) {
    blas::gemm(true, false, features, value_dim, count, T{1}, phi, features, rows, row_stride, T{1},
               sum, value_dim);
    for (std::int64_t token = 0; token < count; ++token) {
      const T weight = weights ? weights[token] : T{1};
#pragma omp simd
      for (std::int64_t f = 0; f < features; ++f) {
        normalizer[f] += weight * phi[token * features + f];
      }
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

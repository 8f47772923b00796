// What the CPU kernels of exact softmax attention share: who sees whom, and the tokens of a tile in
// scratch memory.
//
// Rows are the tokens whose sums are made, and stay while columns pass by, those that they attend
// to or are attended by. Both are copied: then rows are whole vectors, either side can be read as
// columns, and tokens that a mask leaves out are no part of any product.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/carve.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matrix.h"
#include "kernels/cpu/tile_product.h"
#include "kernels/softmax_attention.h"

namespace longscan::softmax {

/// Rows in a piece of work, the columns of a tile, and the rows of a tile whose scores are made at
/// once and stay in the first cache. No functions of the number of threads, so that results are
/// none either.
constexpr std::int64_t kRows = 192;
constexpr std::int64_t kColumns = 128;
constexpr std::int64_t kBand = 4 * tile::kRowsAtOnce;

/// Tokens [begin, end) of a block.
struct Span {
  std::int64_t begin;
  std::int64_t end;
};

/// The documents of a block. They ascend, so that each is one span.
class Documents {
 public:
  explicit Documents(const LineBlock& block)
      : first_(block.document.as<std::int64_t>()), tokens_(block.document.shape[0]) {}

  std::int64_t tokens() const { return tokens_; }

  /// The tokens of the document that begins at place `start` of the line.
  Span at(std::int64_t start) const {
    const auto [begin, end] = std::equal_range(first_, first_ + tokens_, start);
    return {begin - first_, end - first_};
  }

  /// Calls `body(run, start)` for the runs of one document each that `span` consists of.
  template <class Body>
  void for_each(Span span, const Body& body) const {
    while (span.begin < span.end) {
      const std::int64_t start = first_[span.begin];
      const std::int64_t* end = std::upper_bound(first_ + span.begin, first_ + span.end, start);
      body(Span{span.begin, end - first_}, start);
      span.begin = end - first_;
    }
  }

 private:
  const std::int64_t* first_;
  std::int64_t tokens_;
};

/// Which keys a query sees.
class Sight {
 public:
  Sight(const LineBlock& query_block, const LineBlock& key_block, bool causal)
      : queries(query_block),
        keys(key_block),
        causal_(causal),
        ahead_(query_block.first_token - key_block.first_token) {}

  const Documents queries;
  const Documents keys;

  /// The first key that comes after all that a query sees, and the first query that sees a key,
  /// were they of one document.
  std::int64_t end_for_query(std::int64_t query) const {
    return causal_ ? std::clamp<std::int64_t>(query + ahead_ + 1, 0, keys.tokens()) : keys.tokens();
  }
  std::int64_t begin_for_key(std::int64_t key) const {
    return causal_ ? std::clamp<std::int64_t>(key - ahead_, 0, queries.tokens()) : 0;
  }

  /// The keys that any query of a run sees, and the queries that see any key of one.
  Span keys_of(Span run, std::int64_t start) const {
    const Span document = keys.at(start);
    return {document.begin, std::min(document.end, end_for_query(run.end - 1))};
  }
  Span queries_of(Span run, std::int64_t start) const {
    const Span document = queries.at(start);
    return {std::max(document.begin, begin_for_key(run.begin)), document.end};
  }

 private:
  bool causal_;
  std::int64_t ahead_;  // places from key 0 to query 0
};

/// The rows or columns of a tile: some tokens of a block, ascending.
class Tokens {
 public:
  /// The first of `span` that `mask` keeps, at most `most`; `span` is left with what follows them.
  Tokens(Span& span, const Tensor& mask, std::int64_t most) {
    const auto* kept = mask.as<std::uint8_t>();
    for (; span.begin < span.end && count_ < most; ++span.begin) {
      if (!mask.present() || kept[span.begin] != 0) tokens_[count_++] = span.begin;
    }
  }

  std::int64_t count() const { return count_; }
  std::int64_t operator[](std::int64_t index) const { return tokens_[index]; }
  /// How many come before `token`.
  std::int64_t count_before(std::int64_t token) const {
    return std::lower_bound(tokens_.begin(), tokens_.begin() + count_, token) - tokens_.begin();
  }

 private:
  std::array<std::int64_t, std::max(kRows, kColumns)> tokens_;
  std::int64_t count_ = 0;
};

/// Some tokens of one head in scratch memory, a row each, padded with zeros to whole vectors.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t dim = 0;
  std::int64_t stride = 0;

  static std::int64_t size(std::int64_t count, std::int64_t dim) {
    return count * tile::padded<T>(dim);
  }
  static Rows in(Carve<T>& carve, std::int64_t count, std::int64_t dim) {
    return {carve.take(size(count, dim)), dim, tile::padded<T>(dim)};
  }

  T* row(std::int64_t index) const { return data + index * stride; }
  tile::Left<T> left(std::int64_t index) const { return {row(index), stride, 1}; }
  tile::Right<T> right(std::int64_t index) const { return {row(index), stride}; }
  tile::Result<T> result(std::int64_t index) const { return {row(index), stride}; }

  void clear(std::int64_t count) const { std::fill_n(data, count * stride, T{0}); }
  void load(const Tensor& from, std::int64_t head, const Tokens& tokens, T factor = 1) const {
    const Matrix<T> all = head_rows<T>(from, head);
    for (std::int64_t i = 0; i < tokens.count(); ++i) {
      const T* in = all.row(tokens[i]);
      T* out = row(i);
#pragma omp simd
      for (std::int64_t d = 0; d < dim; ++d) out[d] = factor * in[d];
      std::fill(out + dim, out + stride, T{0});
    }
  }
  /// Adds the rows, times `factor`, to the tokens of `to`.
  void add_to(const Tensor& to, std::int64_t head, const Tokens& tokens, T factor = 1) const {
    const Matrix<T> all = head_rows<T>(to, head);
    for (std::int64_t i = 0; i < tokens.count(); ++i) {
      const T* in = row(i);
      T* out = all.row(tokens[i]);
#pragma omp simd
      for (std::int64_t d = 0; d < dim; ++d) out[d] += factor * in[d];
    }
  }
};

/// The columns of a tile: a token each, [dim, kColumns].
template <class T>
struct Columns {
  T* data = nullptr;

  static std::int64_t size(std::int64_t dim) { return tile::padded<T>(dim) * kColumns; }
  static Columns in(Carve<T>& carve, std::int64_t dim) { return {carve.take(size(dim))}; }

  void transpose(const Rows<T>& rows, std::int64_t count) const {
    tile::transpose(data, kColumns, rows.data, rows.stride, count, rows.dim);
  }
  tile::Right<T> from(std::int64_t column) const { return {data + column, kColumns}; }
};

/// Calls `body(begin, end)` for the bands of a tile of `rows` rows.
template <class Body>
void for_bands(std::int64_t rows, const Body& body) {
  for (std::int64_t row = 0; row < rows; row += kBand) body(row, std::min(rows, row + kBand));
}

/// Calls `body(run, start, head, thread)`, in parallel, for the runs of one document each that the
/// pieces of work of every head consist of.
template <class Body>
void for_each_run(Cpu& cpu, std::int64_t heads, const Documents& documents, const Body& body) {
  const std::int64_t blocks = count_blocks(documents.tokens(), kRows);
  cpu.for_each(heads * blocks, [&](std::int64_t index, int thread) {
    const std::int64_t begin = index % blocks * kRows;
    const std::int64_t end = std::min(documents.tokens(), begin + kRows);
    documents.for_each({begin, end}, [&](Span run, std::int64_t start) {
      body(run, start, index / blocks, thread);
    });
  });
}

}  // namespace longscan::softmax

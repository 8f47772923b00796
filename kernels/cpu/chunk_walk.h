// The walk of the attention kernels over a shard: chunk by chunk, head by head.
#pragma once

#include <algorithm>
#include <cstdint>

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

  /// Gives the second half of a chunk that `next` gave back, to be walked through after the first.
  void shorten_end(Chunk& chunk) {
    chunk.end = chunk.begin + chunk.size() / 2;
    begin_ = chunk.end;
  }
  /// Gives the first half of a chunk that `previous` gave back.
  void shorten_begin(Chunk& chunk) {
    chunk.begin = chunk.end - chunk.size() / 2;
    chunk.starts_document = false;
    end_ = chunk.begin;
  }

 private:
  const std::int64_t* first_;
  const std::int64_t* last_;
  std::int64_t begin_;
  std::int64_t end_;
};

/// Whether a document begins within [begin, end).
inline bool has_start(const Tensor& document_starts, std::int64_t begin, std::int64_t end) {
  const auto* first = document_starts.as<std::int64_t>();
  const auto* last = first + document_starts.size();
  const auto* start = std::lower_bound(first, last, begin);
  return start != last && *start < end;
}

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

}  // namespace longscan::attention

// How a block of the GPU kernels of linear attention finds its way: documents, chunks, what is in
// them.
#pragma once

#include "kernels/cuda/linear_attention_block.h"

namespace longscan::gpu_attention {

/// Of document starts, the number of those before `token`.
__device__ inline std::int64_t count_starts(const std::int64_t* starts, std::int64_t count,
                                            std::int64_t token) {
  std::int64_t low = 0, high = count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    starts[middle] < token ? low = middle + 1 : high = middle;
  }
  return low;
}

struct Range {
  std::int64_t begin;
  std::int64_t end;
};

/// The tokens on one side of [begin, end): the last document's or those before the first start.
__device__ inline Range side_of(Range range, ShardSide side, const std::int64_t* starts,
                                std::int64_t count) {
  const bool front = side == ShardSide::front;
  const std::int64_t index = count_starts(starts, count, front ? range.begin : range.end);
  if (front) {
    if (index < count && starts[index] < range.end) range.end = starts[index];
  } else if (index > 0 && starts[index - 1] > range.begin) {
    range.begin = starts[index - 1];
  }
  return range;
}

/// Sets of the rows of a chunk, one bit each.
using RowSet = unsigned long long;

__device__ inline RowSet rows_below(int row) {
  return row >= 64 ? ~RowSet{0} : (RowSet{1} << row) - 1;
}
__device__ inline RowSet rows_between(int first, int last) {
  return rows_below(last) & ~rows_below(first);
}
__device__ inline int lowest_row(RowSet rows) {
  return __popcll((rows & (0 - rows)) - 1);  // 64 where there is none
}
__device__ inline int highest_row(RowSet rows) {
  return 63 - __clzll(static_cast<long long>(rows));  // -1 where there is none
}

/// The row where the document of `row` begins, 0 where that is before the chunk.
__device__ inline int document_begin(RowSet starts, int row) {
  const int begin = highest_row(starts & rows_below(row + 1));
  return begin < 0 ? 0 : begin;
}

struct Chunk {
  std::int64_t begin;
  int count;
  RowSet starts;    ///< rows that begin a document
  RowSet attended;  ///< rows whose key is attended to
};

/// The rows of a chunk whose keys somebody attends to.
template <class T>
__device__ RowSet find_attended(const Call<T>& call, std::int64_t begin, int count, int lane) {
  if (call.key_mask == nullptr) return rows_below(count);
  unsigned words[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane + 32 * half;
    words[half] = __ballot_sync(0xffffffffu, row < count && call.key_mask[begin + row] != 0);
  }
  return words[0] | static_cast<RowSet>(words[1]) << 32;
}

/// Gives the chunks of a range one after the other, from its begin or from its end, on a grid that
/// begins where the range does.
template <class T, int kRows>
class Walk {
 public:
  __device__ Walk(const Call<T>& call, Range range, bool backwards, int lane)
      : call_(call), range_(range), backwards_(backwards), lane_(lane) {
    next_ = backwards ? (range.end - range.begin + kRows - 1) / kRows - 1 : 0;
    cursor_ = count_starts(call.starts, call.starts_count, backwards ? range.end : range.begin);
  }

  __device__ bool next(Chunk& chunk) {
    chunk.begin = range_.begin + next_ * kRows;
    if (next_ < 0 || chunk.begin >= range_.end) return false;
    const std::int64_t left = range_.end - chunk.begin;
    chunk.count = left < kRows ? static_cast<int>(left) : kRows;
    chunk.attended = find_attended(call_, chunk.begin, chunk.count, lane_);
    chunk.starts = find_starts(chunk);
    const int found = __popcll(chunk.starts);
    cursor_ += backwards_ ? -found : found;
    next_ += backwards_ ? -1 : 1;
    return true;
  }

 private:
  // The cursor stands before the first start of the chunk, or behind the last one.
  __device__ RowSet find_starts(const Chunk& chunk) const {
    RowSet found = 0;
#pragma unroll
    for (int half = 0; half < kRows / 32; ++half) {
      const int ahead = lane_ + 32 * half;
      const std::int64_t index = backwards_ ? cursor_ - 1 - ahead : cursor_ + ahead;
      if (index < 0 || index >= call_.starts_count) continue;
      const std::int64_t row = call_.starts[index] - chunk.begin;
      if (row >= 0 && row < chunk.count) found |= RowSet{1} << row;
    }
    if (__any_sync(0xffffffffu, found != 0) == 0) return 0;
    const RowSet low = __reduce_or_sync(0xffffffffu, static_cast<unsigned>(found));
    return low |
           static_cast<RowSet>(__reduce_or_sync(0xffffffffu, static_cast<unsigned>(found >> 32)))
               << 32;
  }

  const Call<T>& call_;
  Range range_;
  bool backwards_;
  int lane_;
  std::int64_t next_;
  std::int64_t cursor_;
};

}  // namespace longscan::gpu_attention

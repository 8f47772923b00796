// What the passes with outputs have in common: the documents of a piece where attention is not
// causal, and the runs of a chunk whose exponents may be taken together.
#pragma once

#include "kernels/cuda/linear_attention_passes.h"
#include "kernels/cuda/linear_attention_sum.h"

namespace longscan::gpu_attention {

/// Rows [first, last) of a chunk, worked on together. Of maps without exponents that is the chunk,
/// and its document starts are borders within it; of others it is a part of one document.
struct Run {
  int first;
  int last;
  RowSet starts;
  bool starts_document;  ///< at `first`; only where `starts` is without

  __device__ RowSet rows() const { return rows_between(first, last); }
  __device__ int size() const { return last - first; }
};

/// Which keys of a run the lane's queries see, where attention is causal.
class LookBack {
 public:
  template <class T, int kDim>
  __device__ LookBack(const Block<T, kDim>& block, const Run& run)
      : rows_{block.row(0), block.row(2)}, lane_(block.lane) {
#pragma unroll
    for (int half = 0; half < 2; ++half) begins_[half] = document_begin(run.starts, rows_[half]);
  }
  /// Number `index` of a tile of scores, whose keys are the tile `keys` of the chunk's rows.
  __device__ bool sees(int keys, int index) const {
    const int column = keys * mma::kTile + mma::column_of(lane_, index);
    return column <= rows_[index / 2 % 2] && column >= begins_[index / 2 % 2];
  }

 private:
  int rows_[2];
  int begins_[2];
  int lane_;
};

/// The state of a document that a part of the piece belongs to, its own tokens included.
template <class T, int kDim, bool kGradients>
__device__ void load_document(const Block<T, kDim>& block, const Call<T>& call,
                              const States& states, const Place& place, Range part,
                              bool starts_here) {
  const std::int64_t offset = place.offset(call);
  const bool at_begin = part.begin == place.begin && !starts_here;
  const bool at_end = part.end == place.end;
  const float* own = at_end ? states.own_back : at_begin ? states.own_front : nullptr;
  if (own != nullptr) {
    load_state(block, own + offset, call.value_dim);
  } else {
    clear_state(block);
    __syncthreads();
    add_range<T, kDim, kGradients>(block, call, place.head, part);
  }
  __syncthreads();
  if (at_begin && states.before != nullptr) {
    join_state(block, states.before + offset, call.value_dim);
  }
  __syncthreads();
  // A document that ends with the piece has nothing there.
  if (at_end && states.behind != nullptr) {
    join_state(block, states.behind + offset, call.value_dim);
  }
  __syncthreads();
}

/// Calls `body(chunk)` for the chunks of every document of the piece, the document's state at hand.
template <class T, int kDim, bool kGradients, class Body>
__device__ void for_documents(const Block<T, kDim>& block, const Call<T>& call,
                              const States& states, const Place& place, Body&& body) {
  using S = Sizes<T, kDim>;
  Range part{place.begin, place.begin};
  while (part.begin < place.end) {
    const std::int64_t index = count_starts(call.starts, call.starts_count, part.begin + 1);
    const bool starts_here = index > 0 && call.starts[index - 1] == part.begin;
    const bool ends = index < call.starts_count && call.starts[index] < place.end;
    part.end = ends ? call.starts[index] : place.end;
    load_document<T, kDim, kGradients>(block, call, states, place, part, starts_here);
    for (std::int64_t begin = part.begin; begin < part.end; begin += S::kRows) {
      const std::int64_t left = part.end - begin;
      const int count = left < S::kRows ? static_cast<int>(left) : S::kRows;
      body(Chunk{begin, count, 0, find_attended(call, begin, count, block.lane)});
      __syncthreads();
    }
    part.begin = part.end;
  }
}

/// The state that a causal walk over the piece begins with.
template <class T, int kDim>
__device__ void load_beginning(const Block<T, kDim>& block, const Call<T>& call,
                               const float* states, const Place& place) {
  states == nullptr ? clear_state(block)
                    : load_state(block, states + place.offset(call), call.value_dim);
  __syncthreads();
}

/// Which input of the block is which.
struct Inputs {
  int query;
  int key;
  int value;
  int d_out;
};

/// A chunk of all that backward reads, there for all threads.
template <class T, int kDim>
__device__ void fetch_all(const Block<T, kDim>& block, const Call<T>& call, std::int64_t head,
                          const Chunk& chunk, const Inputs& inputs) {
  fetch_rows(block, inputs.key, call.key, head, chunk.begin, chunk.count);
  fetch_rows(block, inputs.value, call.value, head, chunk.begin, chunk.count);
  fetch_rows(block, inputs.query, call.query, head, chunk.begin, chunk.count);
  fetch_rows(block, inputs.d_out, call.d_out, head, chunk.begin, chunk.count);
  finish_fetches();
  __syncthreads();
}

/// Walks through a chunk's rows run by run, forwards. `fits(run)` leaves the exponents of a run's
/// keys for `body(run)`, and tells whether none rises too far; a run that does not fit is halved.
template <class T, int kDim, class Fits, class Body>
__device__ void for_runs(const Block<T, kDim>& block, const Chunk& chunk, Fits&& fits,
                         Body&& body) {
  if (!block.map.exponential()) {
    body(Run{0, chunk.count, chunk.starts, false});
    return;
  }
  Run run{0, 0, 0, false};
  for (; run.first < chunk.count; run.first = run.last) {
    run.starts_document = (chunk.starts >> run.first & 1) != 0;
    const int border = lowest_row(chunk.starts & ~rows_below(run.first + 1));
    run.last = border < chunk.count ? border : chunk.count;
    if (run.starts_document) {
      clear_state(block);
      __syncthreads();
    }
    while (!fits(run) && run.size() > 1) run.last = run.first + run.size() / 2;
    body(run);
    __syncthreads();
  }
}

/// Exponents of a run's keys: block.highest = the largest of theirs and of the state's, for all to
/// see. Returns, to all threads that find it, whether one rises too far above what the first key
/// has seen. `rows` are key_rows of the run.
template <class T, int kDim>
__device__ bool find_highest(const Block<T, kDim>& block, int tile, int input, const RowPair& rows,
                             RowSet present) {
  using S = Sizes<T, kDim>;
  mma::Accumulator keys[S::kFeatureTiles];
  project(block, input, tile, keys);
  to_exponents(block, tile, rows, keys);
  leave_highest(block, lowest_row(present), keys);
  __syncthreads();
  bool rises = false;
  for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
    const int f = tile * S::kFeatures + column;
    const float before = block.exponent[f];
    block.highest[f] = fmaxf(before, highest_of_chunk(block, column));
    if (present == 0) continue;
    rises |= block.highest[f] - fmaxf(block.first[column], before) > kHighestRise;
  }
  __syncthreads();
  return rises;
}

/// The tile's part of the state and what keys and queries are relative to come to block.highest.
/// Behind it, a barrier is due.
template <class T, int kDim>
__device__ void come_to_highest(const Block<T, kDim>& block, int tile) {
  using S = Sizes<T, kDim>;
  for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
    const float highest = block.highest[tile * S::kFeatures + column];
    block.sent_reference[column] = reference_of(highest);
    block.seen_reference[column] = -highest;
  }
  raise_state(block, tile, block.highest);
}

}  // namespace longscan::gpu_attention

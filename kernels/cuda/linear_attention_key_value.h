// Gradients of keys and values of linear attention on the GPU: a walk from the end of the line to
// its begin.
//
// Of a chunk, with R the state of what is behind it:  d_phi_k = V~ R^T + triu(V~ g~^T) phi_q and
// d_v = phi_k R + triu(phi_k phi_q^T) g~, then R += phi_q^T g~. The queries' normalisers are taken
// into phi_q, so that phi_q_i . phi_k_j is a share of token i's attention and g~ is [d_out, -(d_out
// . out)]. A warp holds the gradients of its 16 keys in registers.
#pragma once

#include "kernels/cuda/linear_attention_runs.h"

namespace longscan::gpu_attention::key_side {

// The walk's sum of gradients (add_range) has its rows in the first two.
enum Input { kQuery, kGradient, kKey, kValue, kInputs };

/// What a run's tiles need, and what they leave.
template <class T, int kDim>
struct Work {
  using S = Sizes<T, kDim>;
  RowPair keys;     ///< as key_rows gives them
  RowPair queries;  ///< as query_rows gives them
  mma::Accumulator d_value[S::kDimTiles];
  mma::Accumulator d_key[S::kDimTiles];  ///< where there is a projection, without its scale
  RowPair total{};                       ///< of d_phi_k phi_k, over a lane's numbers

  __device__ Work() {
#pragma unroll
    for (auto& tile : d_value) tile.clear();
#pragma unroll
    for (auto& tile : d_key) tile.clear();
  }
};

/// Whether the query of column `column` sees the key of row `row`.
__device__ inline bool sees(RowSet starts, int row, int column) {
  return column >= row && (starts & rows_between(row + 1, column + 1)) == 0;
}

/// Exponents of a run, for all to see: block.highest those of its keys alone, block.next those of
/// the state that has taken its queries in. Returns whether some query would, relative to the run's
/// keys, have an exponent too far above its normaliser: its attention goes to keys before the
/// run's, and the others must not spoil it.
template <class T, int kDim>
__device__ bool find_exponents(const Block<T, kDim>& block, const RowPair& keys,
                               const RowPair& queries) {
  using S = Sizes<T, kDim>;
  bool rises = false;
  for (int tile = 0; tile < block.tiles(); ++tile) {
    take_projection(block, tile);
    mma::Accumulator exponents[S::kFeatureTiles];
    const auto leave = [&](Input input, const RowPair& rows) {
      project(block, input, tile, exponents);
      to_exponents(block, tile, rows, exponents);
      leave_highest(block, -1, exponents);
      __syncthreads();
    };
    leave(kKey, keys);
    for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
      block.highest[tile * S::kFeatures + column] = highest_of_chunk(block, column);
    }
    __syncthreads();
    leave(kQuery, queries);
    for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
      const int f = tile * S::kFeatures + column;
      const float largest = highest_of_chunk(block, column);
      block.next[f] = fmaxf(block.exponent[f], largest);
      rises |= largest + block.highest[f] > kHighestRise;
    }
    __syncthreads();
  }
  return __syncthreads_or(rises ? 1 : 0) != 0;
}

/// Of exponential maps, what the tile's exponents are relative to while the run's keys look back at
/// it, and what the state's sums must be multiplied by then. The keys precede the state's queries,
/// so that the exponents of both together are none above 0.
template <class T, int kDim, bool kCausal>
__device__ void find_references(const Block<T, kDim>& block, int tile) {
  using S = Sizes<T, kDim>;
  for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
    const int f = tile * S::kFeatures + column;
    // Where attention is not causal, keys come to the exponents of the state.
    const float highest = kCausal ? block.highest[f] : -block.exponent[f];
    block.seen_reference[column] = reference_of(highest);
    block.sent_reference[column] = -highest;
    block.ratio[column] = kCausal ? expf(block.exponent[f] + highest) : 1.0f;
  }
  __syncthreads();
}

/// phi_q of a tile, for all to see once they have met.
template <class T, int kDim>
__device__ void put_queries(const Block<T, kDim>& block, int tile, const RowPair& queries) {
  mma::Accumulator phi[Sizes<T, kDim>::kFeatureTiles];
  project(block, kQuery, tile, phi);
  to_features(block, tile, queries, block.sent_reference, phi);
  put_features(block, phi);
}

/// The state takes in the run's queries, whose features block.phi holds unless the map is
/// exponential. Begins and ends with all threads together.
template <class T, int kDim>
__device__ void add_queries(const Block<T, kDim>& block, int tile, const Run& run,
                            const RowPair& queries) {
  using S = Sizes<T, kDim>;
  if (block.map.exponential()) {
    for (int column = block.thread(); column < S::kFeatures; column += S::kThreads) {
      block.sent_reference[column] = reference_of(block.next[tile * S::kFeatures + column]);
    }
    raise_state(block, tile, block.next);
    put_queries(block, tile, queries);
    __syncthreads();
  }
  const bool cut = run.starts != 0;
  add_to_state<T, kDim, true>(block, tile, kGradient,
                              cut ? rows_below(lowest_row(run.starts)) : ~RowSet{0}, cut);
  __syncthreads();
}

/// d_value += triu(phi_k phi_q^T) g and d_phi += triu(V~ g~^T) phi_q of a tile of features: sums
/// over features need not be complete to be multiplied.
template <class T, int kDim>
__device__ void look_at_queries(const Block<T, kDim>& block, const Run& run,
                                const mma::Fragment<T> (&key)[Sizes<T, kDim>::kFeatureTiles],
                                Work<T, kDim>& work,
                                mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll 1
  for (int j = block.warp; j < S::kRowTiles; ++j) {
    const T* queries = block.phi + j * mma::kTile * S::kPhiStride;
    const T* gradients = block.inputs[kGradient] + j * mma::kTile * S::kStride;
    mma::Accumulator scores, d_scores;
    scores.clear();
    d_scores.clear();
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::Fragment<T> query;
      mma::load(query, queries + n * mma::kTile, S::kPhiStride, block.lane);
      mma::multiply(scores, key[n], query);
    }
#pragma unroll 2
    for (int k = 0; k < S::kDimTiles; ++k) {
      mma::Fragment<T> value, gradient;
      mma::load(value, block.own(kValue) + k * mma::kTile, S::kStride, block.lane);
      mma::load(gradient, gradients + k * mma::kTile, S::kStride, block.lane);
      mma::multiply(d_scores, value, gradient);
    }
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      const int column = j * mma::kTile + mma::column_of(block.lane, i);
      const bool seen = sees(run.starts, block.row(i), column);
      scores[i] = seen ? scores[i] : 0.0f;
      d_scores[i] = seen ? d_scores[i] + block.weights[column] : 0.0f;
    }
    const mma::Fragment<T> weights = mma::rounded<T>(scores);
    const mma::Fragment<T> d_weights = mma::rounded<T>(d_scores);
#pragma unroll
    for (int n = 0; n < S::kDimTiles; ++n) {
      mma::Fragment<T> gradient;
      mma::load_transposed(gradient, gradients + n * mma::kTile, S::kStride, block.lane);
      mma::multiply(work.d_value[n], weights, gradient);
    }
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::Fragment<T> query;
      mma::load_transposed(query, queries + n * mma::kTile, S::kPhiStride, block.lane);
      mma::multiply(d_phi[n], d_weights, query);
    }
  }
}

/// d_phi = V~ R^T of a tile and d_value += phi_k R; nothing for keys before the row `border`, whose
/// documents end within the run.
template <class T, int kDim>
__device__ void look_at_state(const Block<T, kDim>& block, int tile, int border,
                              const mma::Fragment<T> (&key)[Sizes<T, kDim>::kFeatureTiles],
                              Work<T, kDim>& work,
                              mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  const bool exponential = block.map.exponential();
#pragma unroll
  for (auto& part : d_phi) part.clear();
  add_features_of_state<T, kDim, false>(block, tile, kValue, d_phi);
  for_numbers(d_phi, block.lane, [&](float x, int, int column) {
    return x + normalizer_of(block, tile * S::kFeatures + column);
  });
  mma::Fragment<T> seeing[S::kFeatureTiles];
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) seeing[n] = key[n];
  if (exponential || border > 0) {
    const auto share = [&](int i, int column) {
      if (block.row(i) < border) return 0.0f;
      return exponential ? block.ratio[column] : 1.0f;
    };
    for_numbers(d_phi, block.lane, [&](float x, int i, int column) {
      return share(i, column) == 0 ? 0.0f : x * share(i, column);
    });
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::Fragment<float> numbers = widened(key[n]);
#pragma unroll
      for (int i = 0; i < mma::kLane; ++i) {
        numbers[i] *= share(i, n * mma::kTile + mma::column_of(block.lane, i));
      }
      seeing[n] = mma::rounded<T>(numbers);
    }
  }
  add_values_of_state(block, tile, seeing, work.d_value);
}

template <class T, int kDim, bool kCausal>
__device__ void differentiate_tile(const Block<T, kDim>& block, int tile, const Run& run,
                                   Work<T, kDim>& work) {
  using S = Sizes<T, kDim>;
  take_projection(block, tile);
  if (block.map.exponential()) find_references<T, kDim, kCausal>(block, tile);
  if constexpr (kCausal) put_queries(block, tile, work.queries);
  mma::Accumulator phi[S::kFeatureTiles], d_phi[S::kFeatureTiles];
  project(block, kKey, tile, phi);
  to_features(block, tile, work.keys, block.seen_reference, phi);
  mma::Fragment<T> key[S::kFeatureTiles];
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) key[n] = mma::rounded<T>(phi[n]);
  look_at_state(block, tile, run.starts == 0 ? 0 : highest_row(run.starts), key, work, d_phi);
  if constexpr (kCausal) {
    __syncthreads();
    look_at_queries(block, run, key, work, d_phi);
  }
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) phi[n] = widened(key[n]);
  differentiate(block, d_phi, phi, work.total);
  if (block.map.projected()) {
    project_back(block, tile, d_phi, work.d_key);
  } else {
    __syncwarp();
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      stage(block, kKey, tile * S::kFeatures + n * mma::kTile, d_phi[n], run.first, run.last);
    }
  }
  __syncthreads();
  if constexpr (kCausal) add_queries(block, tile, run, work.queries);
}

/// d_key of a projected map: the scale, and what |x~|^2 / 2 takes.
template <class T, int kDim>
__device__ void finish_keys(const Block<T, kDim>& block, const Run& run, Work<T, kDim>& work) {
  using S = Sizes<T, kDim>;
  const float scale = block.map.scale;
  RowPair of_norm{};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = sum_over_row(work.total.at[half]);
    of_norm.at[half] = block.map.exponential() ? total * scale * scale : 0.0f;
  }
#pragma unroll
  for (int n = 0; n < S::kDimTiles; ++n) {
    mma::Fragment<T> x;
    mma::load(x, block.own(kKey) + n * mma::kTile, S::kStride, block.lane);
    const mma::Fragment<float> numbers = widened(x);
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      work.d_key[n][i] = work.d_key[n][i] * scale - of_norm.of(i) * numbers[i];
    }
    __syncwarp();
    stage(block, kKey, n * mma::kTile, work.d_key[n], run.first, run.last);
  }
}

/// Where the gradients of keys and values go.
template <class T>
struct Outputs {
  Rows<T> d_key;
  Rows<T> d_value;
};

template <class T, int kDim, bool kCausal>
__device__ void differentiate_run(const Block<T, kDim>& block, const Call<T>& call,
                                  const Outputs<T>& outputs, std::int64_t head, const Chunk& chunk,
                                  const Run& run) {
  using S = Sizes<T, kDim>;
  Work<T, kDim> work;
  work.keys = key_rows(block, kKey, run.rows() & chunk.attended);
  if constexpr (kCausal) work.queries = query_rows(block, call, head, chunk.begin, run.rows());
  for (int tile = 0; tile < block.tiles(); ++tile) {
    differentiate_tile<T, kDim, kCausal>(block, tile, run, work);
  }
  if (block.map.projected()) finish_keys(block, run, work);
  put_rows(block, kKey, outputs.d_key, head, chunk.begin, run.first, run.last);
#pragma unroll
  for (int n = 0; n < S::kDimTiles; ++n) {
    stage(block, kValue, n * mma::kTile, work.d_value[n], run.first, run.last);
  }
  put_rows(block, kValue, outputs.d_value, head, chunk.begin, run.first, run.last);
}

/// Works through a chunk of an exponential map from its last row to its first.
template <class T, int kDim, class Body>
__device__ void for_runs_backwards(const Block<T, kDim>& block, const Call<T>& call,
                                   std::int64_t head, const Chunk& chunk, Body&& body) {
  Run run{chunk.count, chunk.count, 0, false};
  while (run.first > 0) {
    run.last = run.first;
    const int border = highest_row(chunk.starts & rows_below(run.last));
    run.first = border < 0 ? 0 : border;
    while (find_exponents(block, key_rows(block, kKey, run.rows() & chunk.attended),
                          query_rows(block, call, head, chunk.begin, run.rows())) &&
           run.size() > 1) {
      run.first = run.last - run.size() / 2;
    }
    body(run);
    if (run.first == border) {
      __syncthreads();
      clear_state(block);
    }
    __syncthreads();
  }
}

/// Causal, from the state behind the range, whose weights block.weights hold. Begins and ends with
/// all threads together.
template <class T, int kDim>
__device__ __forceinline__ void walk(Block<T, kDim>& block, const Call<T>& call,
                                     const Outputs<T>& outputs, std::int64_t head, Range range) {
  using S = Sizes<T, kDim>;
  float* const weights = block.weights;
  Walk<T, S::kRows> walk(call, range, true, block.lane);
  for (Chunk chunk; walk.next(chunk);) {
    block.weights = weights + (chunk.begin - range.begin);
    fetch_all(block, call, head, chunk,
              {.query = kQuery, .key = kKey, .value = kValue, .d_out = kGradient});
    const auto differentiate = [&](const Run& run) {
      differentiate_run<T, kDim, true>(block, call, outputs, head, chunk, run);
    };
    if (block.map.exponential()) {
      for_runs_backwards(block, call, head, chunk, differentiate);
    } else {
      differentiate(Run{0, chunk.count, chunk.starts, false});
    }
    __syncthreads();
  }
  block.weights = weights;
}

/// Not causal.
template <class T, int kDim>
__global__ void __launch_bounds__(Sizes<T, kDim>::kThreads, Sizes<T, kDim>::kBackwardBlocks)
    backward_key_value(const __grid_constant__ KeyValuePass<T> pass) {
  const Call<T>& call = pass.call;
  const Block<T, kDim> block(call.map, kInputs);
  const Place place(call);
  take_resident_projection(block);
  for_documents<T, kDim, true>(block, call, pass.states, place, [&](const Chunk& chunk) {
    fetch_rows(block, kKey, call.key, place.head, chunk.begin, chunk.count);
    fetch_rows(block, kValue, call.value, place.head, chunk.begin, chunk.count);
    finish_fetches();
    __syncthreads();
    differentiate_run<T, kDim, false>(block, call, Outputs<T>{pass.d_key, pass.d_value}, place.head,
                                      chunk, Run{0, chunk.count, 0, false});
  });
}

}  // namespace longscan::gpu_attention::key_side

namespace longscan::gpu_attention {

template <class T>
void run(Cuda& cuda, const KeyValuePass<T>& pass) {
  for_head_size(pass.call.map.dim, pass.call.value_dim, [&]<int kDim>() {
    launch_blocks<T, kDim>(cuda, key_side::backward_key_value<T, kDim>, pass, key_side::kInputs,
                           pass.call.pieces);
  });
}

}  // namespace longscan::gpu_attention

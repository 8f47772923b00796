// Gradients of the queries of linear attention on the GPU.
//
// Of a chunk, with S the state before it and g~ what its outputs hand back:
// d_phi_q = g~ S^T + tril(g~ V~^T) phi_k, then S += phi_k^T V~. The normaliser is divided by in
// f32, behind the products.
//
// Over a long line d_phi_q is a small difference of large numbers, and the last of g~, -(d_out .
// out), must be more exact than outputs in bf16 are. But attention does not change with the length
// of phi_q, so d_phi_q . phi_q = 0: what it comes to with the outputs as they are kept is what the
// last of g~ was off, and the normaliser's own gradient times that is taken back.
#pragma once

#include "kernels/cuda/linear_attention_runs.h"

namespace longscan::gpu_attention::query_side {

// The walk's sum of keys (add_range) has its rows in the first two.
enum Input { kKey, kValue, kQuery, kGradient, kInputs };

/// What every tile of a run needs.
struct Given {
  RowPair keys;     ///< as key_rows gives them
  RowPair queries;  ///< of exponential maps the normaliser's logarithm
  RowPair inverse;  ///< of others, 1 / normaliser
};

/// What the tiles of a run leave; of projected maps without the projection's scale.
template <class T, int kDim>
struct Work {
  using S = Sizes<T, kDim>;
  mma::Accumulator d_query[S::kDimTiles];        ///< with block.weights as they are
  mma::Accumulator of_normalizer[S::kDimTiles];  ///< the gradient of the normaliser's logarithm
  RowPair along{};                               ///< d_phi . phi, over a lane's numbers
  RowPair total{};                               ///< of the normaliser's, 1 where there are keys

  __device__ Work() {
#pragma unroll
    for (auto& tile : d_query) tile.clear();
#pragma unroll
    for (auto& tile : of_normalizer) tile.clear();
  }
};

/// d_phi of a tile from the state alone; nothing for rows from `border` on.
template <class T, int kDim>
__device__ void differentiate_with_state(const Block<T, kDim>& block, int tile,
                                         const RowPair& inverse, int border,
                                         mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (auto& part : d_phi) part.clear();
  add_features_of_state<T, kDim, true>(block, tile, kGradient, d_phi);
  const float* normalizer = block.normalizer + tile * S::kFeatures;
  for_numbers(d_phi, block.lane, [&](float x, int i, int column) {
    const float sum = x + block.weights[block.row(i)] * normalizer[column];
    return block.row(i) < border ? sum * inverse.of(i) : 0.0f;
  });
}

/// The gradient of the normaliser, over the normaliser: nothing of the state for rows from `border`
/// on.
template <class T, int kDim, bool kCausal>
__device__ void differentiate_normalizer(const Block<T, kDim>& block, int tile, const Run& run,
                                         const RowPair& inverse, int border,
                                         mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (auto& part : d_phi) part.clear();
  if constexpr (kCausal) {
    const LookBack look(block, run);
#pragma unroll 1
    for (int j = 0; j <= block.warp; ++j) {
      mma::Accumulator ones;
#pragma unroll
      for (int i = 0; i < mma::kLane; ++i) ones[i] = look.sees(j, i) ? 1.0f : 0.0f;
      const mma::Fragment<T> seen = mma::rounded<T>(ones);
#pragma unroll
      for (int n = 0; n < S::kFeatureTiles; ++n) {
        mma::Fragment<T> key;
        mma::load_transposed(key, block.phi + j * mma::kTile * S::kPhiStride + n * mma::kTile,
                             S::kPhiStride, block.lane);
        mma::multiply(d_phi[n], seen, key);
      }
    }
  }
  const float* normalizer = block.normalizer + tile * S::kFeatures;
  for_numbers(d_phi, block.lane, [&](float x, int i, int column) {
    return (block.row(i) < border ? x + normalizer[column] : x) * inverse.of(i);
  });
}

/// d_phi += tril(g~ V~^T) phi_k of a tile. The scores' gradients are found anew for every tile: to
/// keep them would take too many registers.
template <class T, int kDim>
__device__ void differentiate_with_keys(const Block<T, kDim>& block, const Run& run,
                                        const RowPair& inverse,
                                        mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  const LookBack look(block, run);
#pragma unroll 1
  for (int j = 0; j <= block.warp; ++j) {
    mma::Accumulator scores;
    scores.clear();
#pragma unroll 2
    for (int k = 0; k < S::kDimTiles; ++k) {
      mma::Fragment<T> left, right;
      mma::load(left, block.own(kGradient) + k * mma::kTile, S::kStride, block.lane);
      mma::load(right, block.inputs[kValue] + j * mma::kTile * S::kStride + k * mma::kTile,
                S::kStride, block.lane);
      mma::multiply(scores, left, right);
    }
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      const float score = (scores[i] + block.weights[block.row(i)]) * inverse.of(i);
      scores[i] = look.sees(j, i) ? score : 0.0f;
    }
    const mma::Fragment<T> gradients = mma::rounded<T>(scores);
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      mma::Fragment<T> key;
      mma::load_transposed(key, block.phi + j * mma::kTile * S::kPhiStride + n * mma::kTile,
                           S::kPhiStride, block.lane);
      mma::multiply(d_phi[n], gradients, key);
    }
  }
}

/// Gradients of features of a tile become those of products, and are taken into the query's.
template <class T, int kDim>
__device__ void take_in(const Block<T, kDim>& block, int tile,
                        mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles],
                        const mma::Accumulator (&phi)[Sizes<T, kDim>::kFeatureTiles],
                        RowPair& along, mma::Accumulator (&d_query)[Sizes<T, kDim>::kDimTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) {
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) along.at[i / 2 % 2] += d_phi[n][i] * phi[n][i];
  }
  RowPair total{};  // cancels, as |x~|^2 of a query does
  differentiate(block, d_phi, phi, total);
  if (block.map.projected()) {
    project_back(block, tile, d_phi, d_query);
    return;
  }
#pragma unroll
  for (int n = 0; n < S::kDimTiles; ++n) {
    if (n / S::kFeatureTiles == tile) d_query[n] = d_phi[n % S::kFeatureTiles];
  }
}

template <class T, int kDim, bool kCausal>
__device__ void differentiate_tile(const Block<T, kDim>& block, int tile, const Run& run,
                                   const Given& given, Work<T, kDim>& work) {
  using S = Sizes<T, kDim>;
  take_projection(block, tile);
  if (block.map.exponential()) {
    come_to_highest(block, tile);
    __syncthreads();
  }
  mma::Accumulator phi[S::kFeatureTiles];
  if constexpr (kCausal) {
    project(block, kKey, tile, phi);
    to_features(block, tile, given.keys, block.sent_reference, phi);
    put_features(block, phi);
    __syncthreads();
  }
  const int border = run.starts == 0 ? S::kRows : lowest_row(run.starts);
  mma::Accumulator d_phi[S::kFeatureTiles];
  differentiate_with_state(block, tile, given.inverse, border, d_phi);
  if constexpr (kCausal) differentiate_with_keys(block, run, given.inverse, d_phi);
  project(block, kQuery, tile, phi);
  to_features(block, tile, given.queries, block.seen_reference, phi);
  take_in(block, tile, d_phi, phi, work.along, work.d_query);
  differentiate_normalizer<T, kDim, kCausal>(block, tile, run, given.inverse, border, d_phi);
  take_in(block, tile, d_phi, phi, work.total, work.of_normalizer);
  __syncthreads();
  if constexpr (kCausal) {
    const RowSet kept = run.starts == 0 ? ~RowSet{0} : ~rows_below(highest_row(run.starts));
    add_to_state<T, kDim, false>(block, tile, kValue, kept, run.starts != 0);
    __syncthreads();
  }
}

/// d_query of a run to memory, and the weights as they should be to block.weights.
template <class T, int kDim>
__device__ void finish_queries(const Block<T, kDim>& block, const Rows<T>& d_query,
                               std::int64_t head, const Chunk& chunk, const Run& run,
                               Work<T, kDim>& work) {
  using S = Sizes<T, kDim>;
  RowPair excess;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = sum_over_row(work.total.at[half]);
    const float along = sum_over_row(work.along.at[half]);
    excess.at[half] = total == 0 ? 0.0f : along / total;
    const int row = block.row(2 * half);
    if (block.lane % 4 == 0 && row >= run.first && row < run.last) {
      block.weights[row] -= excess.at[half];
    }
  }
  const float scale = block.map.scale;
#pragma unroll
  for (int n = 0; n < S::kDimTiles; ++n) {
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      const float off = excess.of(i) * work.of_normalizer[n][i];
      work.d_query[n][i] = (work.d_query[n][i] - off) * scale;
    }
    stage(block, kQuery, n * mma::kTile, work.d_query[n], run.first, run.last);
  }
  put_rows(block, kQuery, d_query, head, chunk.begin, run.first, run.last);
}

template <class T, int kDim, bool kCausal>
__device__ void differentiate_run(const Block<T, kDim>& block, const Call<T>& call,
                                  const Rows<T>& d_query, std::int64_t head, const Chunk& chunk,
                                  const Run& run) {
  const RowPair factors = query_rows(block, call, head, chunk.begin, run.rows());
  const bool exponential = block.map.exponential();
  Given given{.keys = {},
              .queries = exponential ? factors : RowPair{{1, 1}},
              .inverse = exponential ? RowPair{{1, 1}} : factors};
  if constexpr (kCausal) given.keys = key_rows(block, kKey, run.rows() & chunk.attended);
  Work<T, kDim> work;
  for (int tile = 0; tile < block.tiles(); ++tile) {
    differentiate_tile<T, kDim, kCausal>(block, tile, run, given, work);
  }
  finish_queries(block, d_query, head, chunk, run, work);
}

template <class T, int kDim>
__device__ bool find_exponents(const Block<T, kDim>& block, const Chunk& chunk, const Run& run) {
  const RowSet present = run.rows() & chunk.attended;
  const RowPair rows = key_rows(block, kKey, present);
  bool rises = false;
  for (int tile = 0; tile < block.tiles(); ++tile) {
    take_projection(block, tile);
    rises |= find_highest(block, tile, kKey, rows, present);
  }
  return __syncthreads_or(rises ? 1 : 0) == 0;
}

/// Causal, from the state before the range, whose weights block.weights are to hold. Begins and
/// ends with all threads together.
template <class T, int kDim>
__device__ __forceinline__ void walk(Block<T, kDim>& block, const Call<T>& call,
                                     const Rows<T>& d_query, std::int64_t head, Range range) {
  using S = Sizes<T, kDim>;
  float* const weights = block.weights;
  Walk<T, S::kRows> walk(call, range, false, block.lane);
  for (Chunk chunk; walk.next(chunk);) {
    block.weights = weights + (chunk.begin - range.begin);
    fetch_all(block, call, head, chunk,
              {.query = kQuery, .key = kKey, .value = kValue, .d_out = kGradient});
    find_weights(block, call, kGradient, head, chunk.begin, chunk.count);
    for_runs(
        block, chunk, [&](const Run& run) { return find_exponents(block, chunk, run); },
        [&](const Run& run) {
          differentiate_run<T, kDim, true>(block, call, d_query, head, chunk, run);
        });
    __syncthreads();
  }
  block.weights = weights;
}

/// Not causal.
template <class T, int kDim>
__global__ void __launch_bounds__(Sizes<T, kDim>::kThreads, Sizes<T, kDim>::kBackwardBlocks)
    backward_query(const __grid_constant__ QueryPass<T> pass) {
  using S = Sizes<T, kDim>;
  const Call<T>& call = pass.call;
  const Block<T, kDim> block(call.map, kInputs);
  const Place place(call);
  take_resident_projection(block);
  for_documents<T, kDim, false>(block, call, pass.states, place, [&](const Chunk& chunk) {
    fetch_rows(block, kQuery, call.query, place.head, chunk.begin, chunk.count);
    fetch_rows(block, kGradient, call.d_out, place.head, chunk.begin, chunk.count);
    finish_fetches();
    __syncthreads();
    find_weights(block, call, kGradient, place.head, chunk.begin, chunk.count);
    if (block.map.exponential()) {
      for (int f = block.thread(); f < block.tiles() * S::kFeatures; f += S::kThreads) {
        block.highest[f] = block.exponent[f];
      }
      __syncthreads();
    }
    differentiate_run<T, kDim, false>(block, call, pass.d_query, place.head, chunk,
                                      Run{0, chunk.count, 0, false});
  });
}

}  // namespace longscan::gpu_attention::query_side

namespace longscan::gpu_attention {

template <class T>
void run(Cuda& cuda, const QueryPass<T>& pass) {
  for_head_size(pass.call.map.dim, pass.call.value_dim, [&]<int kDim>() {
    launch_blocks<T, kDim>(cuda, query_side::backward_query<T, kDim>, pass, query_side::kInputs,
                           pass.call.pieces);
  });
}

}  // namespace longscan::gpu_attention

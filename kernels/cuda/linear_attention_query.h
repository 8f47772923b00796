// Gradients of the queries of linear attention on the GPU.
//
// Of a chunk, with S the state before it and g~ what its outputs hand back:
// d_phi_q = g~ S^T + tril(g~ V~^T) phi_k, then S += phi_k^T V~. The normaliser is divided by in
// f32, behind the products.
#pragma once

#include "kernels/cuda/linear_attention_runs.h"

namespace longscan::gpu_attention {

namespace {

// The walk's sum of keys (add_range) has its rows in the first two.
enum Input { kKey, kValue, kQuery, kGradient, kInputs };

/// d_phi of a tile from the state alone; nothing for rows from `border` on.
template <class T, int kDim>
__device__ void differentiate_with_state(const Block<T, kDim>& block, int tile,
                                         const RowPair& inverse, int border,
                                         mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
#pragma unroll
  for (auto& part : d_phi) part.clear();
  add_features_of_state(block, tile, kGradient, d_phi);
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) {
    const int first = tile * S::kFeatures + n * mma::kTile;
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      const float normalizer = normalizer_of(block, first + mma::column_of(block.lane, i));
      const float of_weight = block.weights[block.row(i)] * normalizer;
      d_phi[n][i] = block.row(i) < border ? (d_phi[n][i] + of_weight) * inverse.of(i) : 0.0f;
    }
  }
}

/// d_phi += tril(g~ V~^T) phi_k of a tile. The scores' gradients are found anew for every tile: to
/// keep them would take too many registers.
template <class T, int kDim>
__device__ void differentiate_with_keys(const Block<T, kDim>& block, const Run& run,
                                        const RowPair& inverse,
                                        mma::Accumulator (&d_phi)[Sizes<T, kDim>::kFeatureTiles]) {
  using S = Sizes<T, kDim>;
  const int begins[2] = {document_begin(run.starts, block.row(0)),
                         document_begin(run.starts, block.row(2))};
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
      const int column = j * mma::kTile + mma::column_of(block.lane, i);
      const bool seen = column <= block.row(i) && column >= begins[i / 2 % 2];
      scores[i] = seen ? (scores[i] + block.weights[block.row(i)]) * inverse.of(i) : 0.0f;
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

/// What every tile of a run needs.
struct Given {
  RowPair keys;     ///< as key_rows gives them
  RowPair queries;  ///< of exponential maps the normaliser's logarithm
  RowPair inverse;  ///< of others, 1 / normaliser
};

template <class T, int kDim, bool kCausal>
__device__ void differentiate_tile(const Block<T, kDim>& block, int tile, const Run& run,
                                   const Given& given,
                                   mma::Accumulator (&d_query)[Sizes<T, kDim>::kDimTiles]) {
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
  RowPair total{};  // cancels, as |x~|^2 of a query does
  differentiate(block, d_phi, phi, total);
  if (block.map.projected()) {
    project_back(block, tile, d_phi, d_query);
  } else {
    __syncwarp();
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
      stage(block, kQuery, tile * S::kFeatures + n * mma::kTile, d_phi[n], run.first, run.last);
    }
  }
  __syncthreads();
  if constexpr (kCausal) {
    const RowSet kept = run.starts == 0 ? ~RowSet{0} : ~rows_below(highest_row(run.starts));
    add_to_state<T, kDim, false>(block, tile, kValue, kept, run.starts != 0);
    __syncthreads();
  }
}

template <class T, int kDim, bool kCausal>
__device__ void differentiate_run(const Block<T, kDim>& block, const QueryPass<T>& pass,
                                  std::int64_t head, const Chunk& chunk, const Run& run) {
  using S = Sizes<T, kDim>;
  const RowPair factors = query_rows(block, pass.call, head, chunk.begin, run.rows());
  const bool exponential = block.map.exponential();
  Given given{.keys = {},
              .queries = exponential ? factors : RowPair{{1, 1}},
              .inverse = exponential ? RowPair{{1, 1}} : factors};
  if constexpr (kCausal) given.keys = key_rows(block, kKey, run.rows() & chunk.attended);
  mma::Accumulator d_query[S::kDimTiles];
#pragma unroll
  for (auto& tile : d_query) tile.clear();
  for (int tile = 0; tile < block.tiles(); ++tile) {
    differentiate_tile<T, kDim, kCausal>(block, tile, run, given, d_query);
  }
  if (block.map.projected()) {
#pragma unroll
    for (int n = 0; n < S::kDimTiles; ++n) {
#pragma unroll
      for (int i = 0; i < mma::kLane; ++i) d_query[n][i] *= block.map.scale;
      stage(block, kQuery, n * mma::kTile, d_query[n], run.first, run.last);
    }
  }
  put_rows(block, kQuery, pass.d_query, head, chunk.begin, run.first, run.last);
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

template <class T, int kDim, bool kCausal>
__global__ void __launch_bounds__(Sizes<T, kDim>::kThreads, Sizes<T, kDim>::kBlocks)
    backward_query(const __grid_constant__ QueryPass<T> pass) {
  using S = Sizes<T, kDim>;
  const Call<T>& call = pass.call;
  const Block<T, kDim> block(call.map, kInputs);
  const Place place(call);
  take_resident_projection(block);
  const auto fetch = [&](const Chunk& chunk) {
    if constexpr (kCausal) {
      fetch_rows(block, kKey, call.key, place.head, chunk.begin, chunk.count);
      fetch_rows(block, kValue, call.value, place.head, chunk.begin, chunk.count);
    }
    fetch_rows(block, kQuery, call.query, place.head, chunk.begin, chunk.count);
    fetch_rows(block, kGradient, call.d_out, place.head, chunk.begin, chunk.count);
    finish_fetches();
    __syncthreads();
    find_weights(block, call, kGradient, place.head, chunk.begin, chunk.count);
  };
  if constexpr (kCausal) {
    load_beginning(block, call, pass.states.before, place);
    Walk<T, S::kRows> walk(call, {place.begin, place.end}, false, block.lane);
    for (Chunk chunk; walk.next(chunk);) {
      fetch(chunk);
      for_runs(
          block, chunk, [&](const Run& run) { return find_exponents(block, chunk, run); },
          [&](const Run& run) {
            differentiate_run<T, kDim, kCausal>(block, pass, place.head, chunk, run);
          });
      __syncthreads();
    }
  } else {
    for_documents<T, kDim, false>(block, call, pass.states, place, [&](const Chunk& chunk) {
      fetch(chunk);
      if (block.map.exponential()) {
        for (int f = block.thread(); f < block.tiles() * S::kFeatures; f += S::kThreads) {
          block.highest[f] = block.exponent[f];
        }
        __syncthreads();
      }
      differentiate_run<T, kDim, kCausal>(block, pass, place.head, chunk,
                                          Run{0, chunk.count, 0, false});
    });
  }
}

}  // namespace

template <class T>
void run(Cuda& cuda, const QueryPass<T>& pass) {
  for_head_size(pass.call.map.dim, pass.call.value_dim, [&]<int kDim>() {
    launch_blocks<T, kDim>(
        cuda, pass.causal ? backward_query<T, kDim, true> : backward_query<T, kDim, false>, pass,
        kInputs);
  });
}

}  // namespace longscan::gpu_attention

// Outputs of linear attention on the GPU.
//
// Of a chunk, with S the state before it:
//   O = phi_q S + tril(phi_q phi_k^T) V,  then S += phi_k^T V.
// Where attention is not causal, S is the document's and O = phi_q S. A warp holds the outputs of
// its 16 queries in registers; features pass by tile by tile.
#include "kernels/cuda/linear_attention_runs.h"

namespace longscan::gpu_attention {

namespace {

enum Input { kQuery, kKey, kValue, kInputs };

template <class T, int kDim>
struct Outputs {
  mma::Accumulator values[Sizes<T, kDim>::kDimTiles];
  RowPair total{};  ///< normalisers, over a lane's numbers

  __device__ Outputs() {
#pragma unroll
    for (auto& tile : values) tile.clear();
  }
};

/// Exponents of a run: of its keys, and in `offsets` what those of each query are relative to.
template <class T, int kDim, bool kCausal>
__device__ bool find_exponents(const Block<T, kDim>& block, const Chunk& chunk, const Run& run,
                               RowPair& offsets) {
  using S = Sizes<T, kDim>;
  bool rises = false;
  offsets = {{kNone, kNone}};
  for (int tile = 0; tile < block.tiles(); ++tile) {
    take_projection(block, tile);
    if constexpr (kCausal) {
      const RowSet present = run.rows() & chunk.attended;
      rises |= find_highest(block, tile, kKey, key_rows(block, kKey, present), present);
    }
    const float* above = kCausal ? block.highest : block.exponent;
    mma::Accumulator queries[S::kFeatureTiles];
    project(block, kQuery, tile, queries);
#pragma unroll
    for (int n = 0; n < S::kFeatureTiles; ++n) {
#pragma unroll
      for (int i = 0; i < mma::kLane; ++i) {
        const int f = tile * S::kFeatures + n * mma::kTile + mma::column_of(block.lane, i);
        offsets.at[i / 2 % 2] = fmaxf(offsets.at[i / 2 % 2], queries[n][i] + above[f]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (float& offset : offsets.at) offset = reference_of(largest_of_row(offset));
  return __syncthreads_or(rises ? 1 : 0) == 0;
}

/// Outputs += tril(phi_q phi_k^T) V~ of a tile of features: sums over features need not be complete
/// to be multiplied.
template <class T, int kDim>
__device__ void look_at_keys(const Block<T, kDim>& block, const Run& run,
                             const mma::Fragment<T> (&query)[Sizes<T, kDim>::kFeatureTiles],
                             Outputs<T, kDim>& outputs) {
  using S = Sizes<T, kDim>;
  const LookBack look(block, run);
#pragma unroll 1
  for (int j = 0; j <= block.warp; ++j) {
    mma::Accumulator scores;
    scores.clear();
#pragma unroll
    for (int k = 0; k < S::kFeatureTiles; ++k) {
      mma::Fragment<T> key;
      mma::load(key, block.phi + j * mma::kTile * S::kPhiStride + k * mma::kTile, S::kPhiStride,
                block.lane);
      mma::multiply(scores, query[k], key);
    }
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) {
      scores[i] = look.sees(j, i) ? scores[i] : 0.0f;
    }
    const mma::Fragment<T> weights = mma::rounded<T>(scores);
    const mma::Fragment<float> numbers = widened(weights);
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) outputs.total.at[i / 2 % 2] += numbers[i];
#pragma unroll
    for (int n = 0; n < S::kDimTiles; ++n) {
      mma::Fragment<T> value;
      mma::load_transposed(value,
                           block.inputs[kValue] + j * mma::kTile * S::kStride + n * mma::kTile,
                           S::kStride, block.lane);
      mma::multiply(outputs.values[n], weights, value);
    }
  }
}

template <class T, int kDim, bool kCausal>
__device__ void attend_tile(const Block<T, kDim>& block, int tile, const Run& run,
                            const RowPair& keys, const RowPair& queries,
                            Outputs<T, kDim>& outputs) {
  using S = Sizes<T, kDim>;
  take_projection(block, tile);
  if (block.map.exponential()) {
    come_to_highest(block, tile);
    __syncthreads();
  }
  mma::Accumulator phi[S::kFeatureTiles];
  if constexpr (kCausal) {
    project(block, kKey, tile, phi);
    to_features(block, tile, keys, block.sent_reference, phi);
    put_features(block, phi);
  }
  project(block, kQuery, tile, phi);
  to_features(block, tile, queries, block.seen_reference, phi);
  mma::Fragment<T> query[S::kFeatureTiles];
#pragma unroll
  for (int n = 0; n < S::kFeatureTiles; ++n) query[n] = mma::rounded<T>(phi[n]);
  if constexpr (kCausal) {
    __syncthreads();
    look_at_keys(block, run, query, outputs);
    // Queries behind a document start within the run see nothing of the state.
    if (run.starts != 0) {
      const int border = lowest_row(run.starts);
#pragma unroll
      for (int n = 0; n < S::kFeatureTiles; ++n) {
#pragma unroll
        for (int i = 0; i < mma::kLane; ++i) {
          if (block.row(i) >= border) phi[n][i] = 0;
        }
        query[n] = mma::rounded<T>(phi[n]);
      }
    }
  }
  add_normalizer(block, tile, query, outputs.total);
  add_values_of_state(block, tile, query, outputs.values);
  __syncthreads();
  if constexpr (kCausal) {
    const RowSet kept = run.starts == 0 ? ~RowSet{0} : ~rows_below(highest_row(run.starts));
    add_to_state<T, kDim, false>(block, tile, kValue, kept, run.starts != 0);
    __syncthreads();
  }
}

template <class T, int kDim, bool kCausal>
__device__ void attend(const Block<T, kDim>& block, const ForwardPass<T>& pass, std::int64_t head,
                       const Chunk& chunk, const Run& run, const RowPair& offsets) {
  using S = Sizes<T, kDim>;
  const bool exponential = block.map.exponential();
  const RowPair keys = kCausal ? key_rows(block, kKey, run.rows() & chunk.attended) : RowPair{};
  const RowPair queries = exponential ? offsets : RowPair{{1, 1}};
  Outputs<T, kDim> outputs;
  for (int tile = 0; tile < block.tiles(); ++tile) {
    attend_tile<T, kDim, kCausal>(block, tile, run, keys, queries, outputs);
  }
  RowPair inverse;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = sum_over_row(outputs.total.at[half]);
    inverse.at[half] = total == 0 ? 0.0f : 1 / total;
    const int row = block.row(2 * half);
    if (block.lane % 4 != 0 || row < run.first || row >= run.last) continue;
    // The logarithm of a token that sees no key is infinity: nothing divided by it is left.
    float& normalizer = *pass.normalizer.row(chunk.begin + row, head);
    normalizer = !exponential ? total : total == 0 ? kInfinity : logf(total) + offsets.at[half];
  }
#pragma unroll
  for (int n = 0; n < S::kDimTiles; ++n) {
#pragma unroll
    for (int i = 0; i < mma::kLane; ++i) outputs.values[n][i] *= inverse.of(i);
    stage(block, kQuery, n * mma::kTile, outputs.values[n], run.first, run.last);
  }
  put_rows(block, kQuery, pass.out, head, chunk.begin, run.first, run.last);
}

template <class T, int kDim, bool kCausal>
__global__ void __launch_bounds__(Sizes<T, kDim>::kThreads, Sizes<T, kDim>::kBlocks)
    forward(const __grid_constant__ ForwardPass<T> pass) {
  using S = Sizes<T, kDim>;
  const Call<T>& call = pass.call;
  const Block<T, kDim> block(call.map, kCausal ? kInputs : 2);
  const Place place(call);
  take_resident_projection(block);
  const auto fetch = [&](const Chunk& chunk) {
    fetch_rows(block, kQuery, call.query, place.head, chunk.begin, chunk.count);
    if constexpr (kCausal) {
      fetch_rows(block, kKey, call.key, place.head, chunk.begin, chunk.count);
      fetch_rows(block, kValue, call.value, place.head, chunk.begin, chunk.count);
    }
    finish_fetches();
    __syncthreads();
  };
  RowPair offsets{};
  if constexpr (kCausal) {
    load_beginning(block, call, pass.states.before, place);
    Walk<T, S::kRows> walk(call, {place.begin, place.end}, false, block.lane);
    for (Chunk chunk; walk.next(chunk);) {
      if (pass.checkpoints != nullptr && chunk.begin % kCheckpointTokens == 0) {
        const std::int64_t at = chunk.begin / kCheckpointTokens * call.heads + place.head;
        store_state(block, pass.checkpoints + at * call.state_size(), call.value_dim);
      }
      fetch(chunk);
      for_runs(
          block, chunk,
          [&](const Run& run) {
            return find_exponents<T, kDim, kCausal>(block, chunk, run, offsets);
          },
          [&](const Run& run) {
            attend<T, kDim, kCausal>(block, pass, place.head, chunk, run, offsets);
          });
      __syncthreads();
    }
  } else {
    for_documents<T, kDim, false>(block, call, pass.states, place, [&](const Chunk& chunk) {
      fetch(chunk);
      const Run run{0, chunk.count, 0, false};
      if (block.map.exponential()) {
        find_exponents<T, kDim, kCausal>(block, chunk, run, offsets);
        for (int f = block.thread(); f < block.tiles() * S::kFeatures; f += S::kThreads) {
          block.highest[f] = block.exponent[f];
        }
        __syncthreads();
      }
      attend<T, kDim, kCausal>(block, pass, place.head, chunk, run, offsets);
    });
  }
}

}  // namespace

template <class T>
void run(Cuda& cuda, const ForwardPass<T>& pass) {
  for_head_size(pass.call.map.dim, pass.call.value_dim, [&]<int kDim>() {
    const std::int64_t pieces = pass.call.pieces;
    pass.causal ? launch_blocks<T, kDim>(cuda, forward<T, kDim, true>, pass, kInputs, pieces)
                : launch_blocks<T, kDim>(cuda, forward<T, kDim, false>, pass, 2, pieces);
  });
}
template void run(Cuda&, const ForwardPass<float>&);
template void run(Cuda&, const ForwardPass<__nv_bfloat16>&);

}  // namespace longscan::gpu_attention

// Exact softmax attention on the GPU, backward: softmaxes are made again from their scores, tile
// after tile, and every gradient is summed up by one warp from beginning to end.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/softmax_attention_parts.h"
#include "kernels/softmax_attention.h"

namespace longscan {

namespace {

using namespace softmax_on_gpu;

// Two tiles of rows stay while two of columns pass by.
constexpr int kColumns = 32;
constexpr int kColumnTiles = kColumns / kTile;

template <class T, int kDim>
constexpr std::int64_t kSharedBytes = 2 * (TileShape<kDim, T>::bytes(TileShape<kDim, T>::kRows) +
                                           TileShape<kDim, T>::bytes(kColumns)) +
                                      (TileShape<kDim, T>::kRows + kColumns) *
                                          static_cast<int>(sizeof(Place)) +
                                      2 * kColumns* static_cast<int>(sizeof(float)) + 512;

template <class T, int kDim>
struct Tiles {
  static constexpr int kRows = TileShape<kDim, T>::kRows;
  static constexpr int kStride = TileShape<kDim, T>::kStride;

  T* rows[2];     // [kRows]: queries and d_out, or keys and values
  T* columns[2];  // [kColumns]: the other two
  Place* row_places;
  Place* column_places;

  __device__ explicit Tiles(SharedArena& arena) {
    for (T*& each : rows) each = arena.take<T>(kRows * kStride);
    for (T*& each : columns) each = arena.take<T>(kColumns * kStride);
    row_places = arena.take<Place>(kRows);
    column_places = arena.take<Place>(kColumns);
  }
};

__device__ QueryNumbers numbers_of(const SoftmaxGradient& gradient, std::int64_t head,
                                   std::int64_t query) {
  const std::int64_t index = query * gradient.log_sum.shape[1] + head;
  return QueryNumbers::of(data_of<float>(gradient.log_sum)[index],
                          data_of<float>(gradient.d_out_dot)[index]);
}

template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, T>::kThreads)
    differentiate_query(const __grid_constant__ SoftmaxAttentionBackwardQuery op, bool vectors) {
  using Shared = Tiles<T, kDim>;
  constexpr int kRows = Shared::kRows;
  SharedArena arena;
  const Shared shared(arena);

  const LineBlock &queries = op.queries.block, &keys = op.keys.block;
  const std::int64_t tokens = op.d_query.shape[0];
  const Piece piece = Piece::of_block<kRows>(op.d_query.shape[1], tokens, op.causal);
  const Span tile{piece.first, min(tokens, piece.first + kRows)};
  const auto load_rows = [&](T* to, const Tensor& from) {
    begin_to_load<kRows, kDim>(to, HeadRows<T>(from, piece.head, vectors).from(tile.begin),
                               [&](int row) { return tile.begin + row < tile.end; });
  };
  load_queries<kRows>(shared.row_places, queries, tile.begin, tile.end, op.causal);
  load_rows(shared.rows[0], op.queries.query);
  load_rows(shared.rows[1], op.gradient.d_out);

  const int band = warp_of_thread() * kTile;
  QueryNumbers numbers[2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t query = tile.begin + band + lane_of_thread() / 4 + 8 * half;
    if (query < tile.end) numbers[half] = numbers_of(op.gradient, piece.head, query);
  }
  const float scale = rsqrtf(static_cast<float>(op.d_query.shape[2]));
  Accumulator sums[TileShape<kDim, T>::kDimTiles];
  clear(sums);

  const HeadRows<T> all_keys(op.keys.key, piece.head, vectors);
  const HeadRows<T> all_values(op.keys.value, piece.head, vectors);
  const Span seen = keys_of(queries, keys, tile, op.causal);
  for (std::int64_t begin = seen.begin; begin < seen.end; begin += kColumns) {
    const auto keep = [&](int row) {
      return begin + row < seen.end && is_kept(op.keys.key_mask, begin + row);
    };
    load_keys<kColumns>(shared.column_places, op.keys, begin, seen.end);
    begin_to_load<kColumns, kDim>(shared.columns[0], all_keys.from(begin), keep);
    begin_to_load<kColumns, kDim>(shared.columns[1], all_values.from(begin), keep);
    wait_for_rows();
    __syncthreads();
    Accumulator scores[kColumnTiles], slopes[kColumnTiles];
    multiply_rows<T, kDim>(scores, shared.rows[0] + band * Shared::kStride, shared.columns[0]);
    multiply_rows<T, kDim>(slopes, shared.rows[1] + band * Shared::kStride, shared.columns[1]);
    const bool all =
        all_see_all<kRows, kColumns>(shared.row_places, shared.column_places, op.keys.key_mask);
    for_each_number(scores, slopes, [&](float& score, float& slope, int half, int row, int column) {
      numbers[half].differentiate(score, slope, scale);
      if (!all && !sees(shared.row_places[band + row], shared.column_places[column])) {
        hide(score, slope);
      }
    });
    add_weighted<T, kDim>(sums, slopes, shared.columns[0]);
    __syncthreads();
  }
  wait_for_rows();
  write_rows<true>(HeadRows<T>(op.d_query, piece.head, vectors).from(tile.begin + band),
                   tile.end - tile.begin - band, sums, scale);
}

// blockIdx.y: which dimensions of d_key and d_value.
template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, T>::kThreads)
    differentiate_key_value(const __grid_constant__ SoftmaxAttentionBackwardKeyValue op,
                            bool vectors) {
  using Shared = Tiles<T, kDim>;
  constexpr int kRows = Shared::kRows;
  SharedArena arena;
  const Shared shared(arena);
  auto* numbers = arena.take<QueryNumbers>(kColumns);

  const LineBlock &queries = op.queries.block, &keys = op.keys.block;
  const std::int64_t tokens = op.d_key.shape[0];
  const Piece piece = Piece::of_block<kRows>(op.d_key.shape[1], tokens, false);
  const Span tile{piece.first, min(tokens, piece.first + kRows)};
  const auto load_rows = [&](T* to, const Tensor& from) {
    begin_to_load<kRows, kDim>(
        to, HeadRows<T>(from, piece.head, vectors).from(tile.begin), [&](int row) {
          return tile.begin + row < tile.end && is_kept(op.keys.key_mask, tile.begin + row);
        });
  };
  load_keys<kRows>(shared.row_places, op.keys, tile.begin, tile.end);
  load_rows(shared.rows[0], op.keys.key);
  load_rows(shared.rows[1], op.keys.value);

  const int band = warp_of_thread() * kTile;
  const int first_dim = static_cast<int>(blockIdx.y) * kSumDim<kDim>;
  const float scale = rsqrtf(static_cast<float>(op.d_key.shape[2]));
  Accumulator d_key[kSumDim<kDim> / kTile], d_value[kSumDim<kDim> / kTile];
  clear(d_key);
  clear(d_value);

  const HeadRows<T> all_queries(op.queries.query, piece.head, vectors);
  const HeadRows<T> all_d_out(op.gradient.d_out, piece.head, vectors);
  const Span seeing = queries_of(queries, keys, tile, op.causal);
  for (std::int64_t begin = seeing.begin; begin < seeing.end; begin += kColumns) {
    const auto keep = [&](int row) { return begin + row < seeing.end; };
    load_queries<kColumns>(shared.column_places, queries, begin, seeing.end, op.causal);
    begin_to_load<kColumns, kDim>(shared.columns[0], all_queries.from(begin), keep);
    begin_to_load<kColumns, kDim>(shared.columns[1], all_d_out.from(begin), keep);
    for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += static_cast<int>(blockDim.x)) {
      numbers[i] = keep(i) ? numbers_of(op.gradient, piece.head, begin + i) : QueryNumbers{};
    }
    wait_for_rows();
    __syncthreads();
    Accumulator scores[kColumnTiles], slopes[kColumnTiles];
    multiply_rows<T, kDim>(scores, shared.rows[0] + band * Shared::kStride, shared.columns[0]);
    multiply_rows<T, kDim>(slopes, shared.rows[1] + band * Shared::kStride, shared.columns[1]);
    const bool all =
        all_see_all<kColumns, kRows>(shared.column_places, shared.row_places, op.keys.key_mask);
    for_each_number(scores, slopes, [&](float& score, float& slope, int, int row, int column) {
      numbers[column].differentiate(score, slope, scale);
      if (!all && !sees(shared.column_places[column], shared.row_places[band + row])) {
        hide(score, slope);
      }
    });
    add_weighted<T, kDim>(d_value, scores, shared.columns[1] + first_dim);
    add_weighted<T, kDim>(d_key, slopes, shared.columns[0] + first_dim);
    __syncthreads();
  }
  wait_for_rows();
  const auto write = [&](const Tensor& to, Accumulator(&sums)[kSumDim<kDim> / kTile],
                         float factor) {
    write_rows<true>(HeadRows<T>(to, piece.head, vectors).from(tile.begin + band),
                     tile.end - tile.begin - band, sums, factor, first_dim);
  };
  write(op.d_key, d_key, scale);
  write(op.d_value, d_value, 1);
}

}  // namespace

void execute(Cuda& cuda, const SoftmaxAttentionBackwardQuery& op) {
  if (op.d_query.size() == 0 || op.keys.key.size() == 0) return;
  const bool vectors = rows_in_vectors(op.queries, op.keys) &&
                       longscan::rows_in_vectors({op.d_query, op.gradient.d_out});
  for_gpu_type(op.d_query.dtype, [&]<class T>() {
    for_head_dim(op.d_query.shape[2], [&]<int kDim>() {
      using Shape = TileShape<kDim, T>;
      launch_tiles(cuda, op.d_query.shape[2], differentiate_query<T, kDim>,
                   count_pieces(op.d_query.shape[1], op.d_query.shape[0], Shape::kRows),
                   Shape::kThreads, kSharedBytes<T, kDim>, op, vectors);
    });
  });
}

void execute(Cuda& cuda, const SoftmaxAttentionBackwardKeyValue& op) {
  if (op.d_key.size() == 0 || op.queries.query.size() == 0) return;
  const bool vectors = rows_in_vectors(op.queries, op.keys) &&
                       longscan::rows_in_vectors({op.d_key, op.d_value, op.gradient.d_out});
  for_gpu_type(op.d_key.dtype, [&]<class T>() {
    for_head_dim(op.d_key.shape[2], [&]<int kDim>() {
      using Shape = TileShape<kDim, T>;
      const auto pieces =
          static_cast<unsigned>(count_pieces(op.d_key.shape[1], op.d_key.shape[0], Shape::kRows));
      launch_tiles(cuda, op.d_key.shape[2], differentiate_key_value<T, kDim>,
                   dim3(pieces, kDim / kSumDim<kDim>), Shape::kThreads, kSharedBytes<T, kDim>, op,
                   vectors);
    });
  });
}

}  // namespace longscan

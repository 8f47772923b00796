// Exact softmax attention on the GPU, forward: a block of threads makes the outputs of a tile of
// queries, tile after tile of the keys that they see.
#include "kernels/softmax_attention.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/softmax_attention_parts.h"

namespace longscan {

namespace {

using namespace softmax_on_gpu;

template <class T, int kDim>
struct Attend {
  using Shape = TileShape<kDim, T>;
  static constexpr int kRows = Shape::kRows;
  static constexpr int kColumns = Shape::kBytes > 256 ? 32 : 64;
  static constexpr int kColumnTiles = kColumns / kTile;
  static constexpr std::int64_t kSharedBytes =
      Shape::bytes(kRows) + 2 * Shape::bytes(kColumns) +
      (kRows + kColumns) * static_cast<int>(sizeof(Place)) + 256;
};

template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, T>::kThreads)
    attend(const __grid_constant__ SoftmaxAttention op, bool vectors) {
  using Sizes = Attend<T, kDim>;
  constexpr int kRows = Sizes::kRows, kColumns = Sizes::kColumns;
  constexpr int kStride = Sizes::Shape::kStride;
  SharedArena arena;
  auto* query = arena.take<T>(kRows * kStride);
  auto* key = arena.take<T>(kColumns * kStride);
  auto* value = arena.take<T>(kColumns * kStride);
  auto* rows = arena.take<Place>(kRows);
  auto* columns = arena.take<Place>(kColumns);

  const LineBlock &queries = op.queries.block, &keys = op.keys.block;
  const std::int64_t tokens = op.out.shape[0];
  const Piece piece = Piece::of_block<kRows>(op.out.shape[1], tokens, op.causal);
  const Span tile{piece.first, min(tokens, piece.first + kRows)};
  load_queries<kRows>(rows, queries, tile.begin, tile.end, op.causal);
  begin_to_load<kRows, kDim>(query,
                             HeadRows<T>(op.queries.query, piece.head, vectors).from(tile.begin),
                             [&](int row) { return tile.begin + row < tile.end; });

  const int band = warp_of_thread() * kTile;
  const std::int64_t first = tile.begin + band;
  const HeadRows<T> out = HeadRows<T>(op.out, piece.head, vectors).from(first);
  const float scale = rsqrtf(static_cast<float>(op.out.shape[2]));
  const std::int64_t heads = op.log_sum.shape[1];
  auto* log_sums = data_of<float>(op.log_sum) + first * heads + piece.head;
  AttendingRows<T, kDim> attending;
  attending.begin_with(out, log_sums, heads, tile.end - first);

  const HeadRows<T> all_keys(op.keys.key, piece.head, vectors);
  const HeadRows<T> all_values(op.keys.value, piece.head, vectors);
  const Span seen = keys_of(queries, keys, tile, op.causal);
  for (std::int64_t begin = seen.begin; begin < seen.end; begin += kColumns) {
    const auto keep = [&](int row) {
      return begin + row < seen.end && is_kept(op.keys.key_mask, begin + row);
    };
    load_keys<kColumns>(columns, op.keys, begin, seen.end);
    begin_to_load<kColumns, kDim>(key, all_keys.from(begin), keep);
    begin_to_load<kColumns, kDim>(value, all_values.from(begin), keep);
    wait_for_rows();
    __syncthreads();
    Accumulator scores[Sizes::kColumnTiles];
    multiply_rows<T, kDim>(scores, query + band * kStride, key);
    if (!all_see_all<kRows, kColumns>(rows, columns, op.keys.key_mask)) {
      for_each_number(scores, [&](float& score, int, int row, int column) {
        if (!sees(rows[band + row], columns[column])) score = -INFINITY;
      });
    }
    attending.take_in(scores, value, scale);
    __syncthreads();
  }
  wait_for_rows();
  attending.store(out, log_sums, heads, tile.end - first);
}

// Eight lanes a token and head.
constexpr int kDotLanes = 8;
constexpr int kDotThreads = 256;

template <class T, int kCount>
__global__ void dot_heads(const __grid_constant__ HeadDot op) {
  const std::int64_t heads = op.a.shape[1];
  const std::int64_t index = (std::int64_t{blockIdx.x} * kDotThreads + threadIdx.x) / kDotLanes;
  const int lane = static_cast<int>(threadIdx.x) % kDotLanes;
  const bool there = index < heads * op.a.shape[0];
  float sum = 0;
  if (there) {
    const T* a = HeadRows<T>(op.a, index % heads, true).row(index / heads);
    const T* b = HeadRows<T>(op.b, index % heads, true).row(index / heads);
    for (std::int64_t d = lane * kCount; d < op.a.shape[2]; d += kDotLanes * kCount) {
      float left[kCount], right[kCount];
      load(left, a + d);
      load(right, b + d);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum += left[i] * right[i];
    }
  }
#pragma unroll
  for (int distance = kDotLanes / 2; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  }
  if (there && lane == 0) data_of<float>(op.dot)[index] = sum;
}

}  // namespace

void execute(Cuda& cuda, const SoftmaxAttention& op) {
  const std::int64_t tokens = op.out.shape[0];
  const std::int64_t heads = op.out.shape[1];
  if (op.out.size() == 0) return;
  const bool vectors = rows_in_vectors(op.queries, op.keys) && longscan::rows_in_vectors({op.out});
  for_gpu_type(op.out.dtype, [&]<class T>() {
    for_head_dim(op.out.shape[2], [&]<int kDim>() {
      using Sizes = Attend<T, kDim>;
      launch_tiles(cuda, op.out.shape[2], attend<T, kDim>,
                   count_pieces(heads, tokens, Sizes::kRows), Sizes::Shape::kThreads,
                   Sizes::kSharedBytes, op, vectors);
    });
  });
}

void execute(Cuda& cuda, const HeadDot& op) {
  if (op.a.size() == 0) return;
  const std::int64_t threads = op.a.shape[0] * op.a.shape[1] * kDotLanes;
  for_gpu_type(op.a.dtype, [&]<class T>() {
    for_pack<T>(longscan::rows_in_vectors({op.a, op.b}), [&]<int kCount>() {
      launch(dot_heads<T, kCount>, (threads + kDotThreads - 1) / kDotThreads, kDotThreads, 0,
             cuda.stream(), op);
    });
  });
}

}  // namespace longscan

// Linformer on the GPU, backward through the softmax: softmaxes are made again from their scores,
// tile after tile, and every gradient of a token, or of a document or a piece of it, is summed up
// by one warp from beginning to end.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/linformer_parts.h"
#include "kernels/linformer.h"
#include "kernels/softmax_attention.h"

namespace longscan {

namespace {

using namespace linformer_on_gpu;

std::int64_t count_dots(const LinformerGradient& gradient) {
  return gradient.out.shape[0] * gradient.out.shape[1];
}
// d_out . out of every token and head.
void dot_outputs(Cuda& cuda, const LinformerGradient& gradient, float* dots) {
  const std::int64_t tokens = gradient.out.shape[0], heads = gradient.out.shape[1];
  execute(cuda, HeadDot{.dot = Tensor::dense(dots, DType::f32, {tokens, heads}),
                        .a = gradient.d_out,
                        .b = gradient.out});
}

__device__ QueryNumbers numbers_of(const LinformerGradient& gradient, const float* dots,
                                   std::int64_t head, std::int64_t token) {
  const std::int64_t index = token * gradient.log_sum.shape[1] + head;
  return QueryNumbers::of(data_of<float>(gradient.log_sum)[index], dots[index]);
}

template <class T, int kDim>
constexpr std::int64_t kProjectedBytes =
    2 * TileShape<kDim, float>::bytes(TileShape<kDim, float>::kRows) +
    2 * TileShape<kDim, T>::bytes(kColumns) +
    kColumns* static_cast<std::int64_t>(sizeof(QueryNumbers)) + 128;

// blockIdx.x: piece, document, head and rows; blockIdx.y: which dimensions of both gradients.
// op.d_projected: of every piece.
template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, float>::kThreads)
    differentiate_projected(const __grid_constant__ LinformerBackwardProjected op,
                            const Documents documents, const Vectors vectors, std::int64_t pieces,
                            const float* dots) {
  constexpr int kRows = TileShape<kDim, float>::kRows, kStride = TileShape<kDim, float>::kStride;
  SharedArena arena;
  auto* key = arena.take<float>(kRows * kStride);
  auto* value = arena.take<float>(kRows * kStride);
  auto* query = arena.take<T>(kColumns * TileShape<kDim, T>::kStride);
  auto* d_out = arena.take<T>(kColumns * TileShape<kDim, T>::kStride);
  auto* numbers = arena.take<QueryNumbers>(kColumns);

  const std::int64_t heads = op.queries.query.shape[1];
  const std::int64_t length = op.d_projected.shape[1];
  const std::int64_t blocks = count_blocks(length, kRows);
  const std::int64_t index = blockIdx.x / blocks;
  const std::int64_t head = index % heads;
  const std::int64_t row = blockIdx.x % blocks * kRows;
  const std::int64_t document = index / heads % documents.count;
  const Run run = piece_of(documents.at(document), index / heads / documents.count, pieces);
  const auto load_rows = [&](float* to, int which) {
    begin_to_load_sums<kRows, kDim>(
        to, sums_of(op.queries.projected, document * heads + head, which, vectors.sums), row,
        length);
  };
  load_rows(key, 0);
  load_rows(value, 1);

  const int band = warp_of_thread() * kTile;
  const int first_dim = static_cast<int>(blockIdx.y) * kSumDim<kDim>;
  const float scale = rsqrtf(static_cast<float>(op.queries.query.shape[2]));
  Accumulator d_key[kSumDim<kDim> / kTile], d_value[kSumDim<kDim> / kTile];
  clear(d_key);
  clear(d_value);
  const HeadRows<T> all_queries(op.queries.query, head, vectors.tokens);
  const HeadRows<T> all_d_out(op.gradient.d_out, head, vectors.tokens);
  for (std::int64_t begin = run.begin; begin < run.end; begin += kColumns) {
    const auto keep = [&](int i) { return begin + i < run.end; };
    begin_to_load<kColumns, kDim>(query, all_queries.from(begin), keep);
    begin_to_load<kColumns, kDim>(d_out, all_d_out.from(begin), keep);
    for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += static_cast<int>(blockDim.x)) {
      numbers[i] = keep(i) ? numbers_of(op.gradient, dots, head, begin + i) : QueryNumbers{};
    }
    wait_for_rows();
    __syncthreads();
    Accumulator scores[kColumnTiles], slopes[kColumnTiles];
    multiply_rows<T, kDim>(scores, key + band * kStride, query);
    multiply_rows<T, kDim>(slopes, value + band * kStride, d_out);
    for_each_number(scores, slopes, [&](float& score, float& slope, int, int, int column) {
      numbers[column].differentiate(score, slope, scale);
      if (!keep(column)) hide(score, slope);
    });
    add_weighted<T, kDim>(d_value, scores, d_out + first_dim);
    add_weighted<T, kDim>(d_key, slopes, query + first_dim);
    __syncthreads();
  }
  wait_for_rows();
  const auto write = [&](int which, Accumulator(&sums)[kSumDim<kDim> / kTile], float factor) {
    write_rows<false>(sums_of(op.d_projected, index, which, vectors.sums).from(row + band),
                      length - row - band, sums, factor, first_dim);
  };
  write(0, d_key, scale);
  write(1, d_value, 1);
}

template <class T, int kDim>
constexpr std::int64_t kQueryBytes = 2 * TileShape<kDim, T>::bytes(TileShape<kDim, T>::kRows) +
                                     2 * TileShape<kDim, float>::bytes(kColumns) + 128;

template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, T>::kThreads)
    differentiate_query(const __grid_constant__ LinformerBackwardQuery op,
                        const Documents documents, const Vectors vectors, const float* dots) {
  constexpr int kRows = TileShape<kDim, T>::kRows, kStride = TileShape<kDim, T>::kStride;
  SharedArena arena;
  auto* query = arena.take<T>(kRows * kStride);
  auto* d_out = arena.take<T>(kRows * kStride);
  auto* key = arena.take<float>(kColumns * TileShape<kDim, float>::kStride);
  auto* value = arena.take<float>(kColumns * TileShape<kDim, float>::kStride);

  const std::int64_t heads = op.d_query.shape[1];
  const std::int64_t length = op.queries.projected.shape[1];
  const std::int64_t head = blockIdx.x % heads;
  const std::int64_t first = blockIdx.x / heads * kRows;
  const std::int64_t end = min(op.d_query.shape[0], first + kRows);
  const auto load_rows = [&](T* to, const Tensor& from) {
    begin_to_load<kRows, kDim>(to, HeadRows<T>(from, head, vectors.tokens).from(first),
                               [&](int row) { return first + row < end; });
  };
  load_rows(query, op.queries.query);
  load_rows(d_out, op.gradient.d_out);

  const int band = warp_of_thread() * kTile;
  QueryNumbers numbers[2] = {};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t token = first + band + lane_of_thread() / 4 + 8 * half;
    if (token < end) numbers[half] = numbers_of(op.gradient, dots, head, token);
  }
  const float scale = rsqrtf(static_cast<float>(op.d_query.shape[2]));
  Accumulator sums[kDim / kTile];
  clear(sums);
  documents.for_each(first, end, [&](const Run& run) {
    const std::int64_t index = run.document * heads + head;
    const auto keys = sums_of(op.queries.projected, index, 0, vectors.sums);
    const auto values = sums_of(op.queries.projected, index, 1, vectors.sums);
    for (std::int64_t begin = 0; begin < length; begin += kColumns) {
      begin_to_load_sums<kColumns, kDim>(key, keys, begin, length);
      begin_to_load_sums<kColumns, kDim>(value, values, begin, length);
      wait_for_rows();
      __syncthreads();
      Accumulator scores[kColumnTiles], slopes[kColumnTiles];
      multiply_rows<T, kDim>(scores, query + band * kStride, key);
      multiply_rows<T, kDim>(slopes, d_out + band * kStride, value);
      for_each_number(scores, slopes,
                      [&](float& score, float& slope, int half, int row, int column) {
                        numbers[half].differentiate(score, slope, scale);
                        const std::int64_t token = first + band + row;
                        if (token < run.begin || token >= run.end || begin + column >= length)
                          hide(score, slope);
                      });
      add_weighted<T, kDim>(sums, slopes, key);
      __syncthreads();
    }
  });
  write_rows<false>(HeadRows<T>(op.d_query, head, vectors.tokens).from(first + band),
                    end - first - band, sums, scale);
}

}  // namespace

void execute(Cuda& cuda, const LinformerBackwardProjected& op) {
  if (op.d_projected.size() == 0) return;
  const Tensor& query = op.queries.query;
  const Documents documents(op.queries.document_starts, op.d_projected, query.shape[1],
                            query.shape[0]);
  for_gpu_type(query.dtype, [&]<class T>() {
    for_head_dim(query.shape[2], [&]<int kDim>() {
      using Shape = TileShape<kDim, float>;
      const std::int64_t blocks =
          op.d_projected.shape[0] * count_blocks(op.d_projected.shape[1], Shape::kRows);
      const std::int64_t pieces =
          count_pieces(cuda, blocks * (kDim / kSumDim<kDim>), query.shape[0]);
      const std::int64_t numbers = numbers_of_pieces(op.d_projected, pieces);
      auto* scratch = cuda.scratch<float>(numbers + count_dots(op.gradient));
      float* dots = scratch + numbers;
      LinformerBackwardProjected of_pieces = op;
      of_pieces.d_projected = room_for_pieces(op.d_projected, scratch, pieces);
      const Vectors vectors({query, op.gradient.d_out}, op.queries.projected,
                            of_pieces.d_projected);
      dot_outputs(cuda, op.gradient, dots);
      launch_tiles(cuda, query.shape[2], differentiate_projected<T, kDim>,
                   dim3(static_cast<unsigned>(pieces * blocks), kDim / kSumDim<kDim>),
                   Shape::kThreads, kProjectedBytes<T, kDim>, of_pieces, documents, vectors, pieces,
                   dots);
      add_pieces(cuda, op.d_projected, of_pieces.d_projected, pieces);
    });
  });
}

void execute(Cuda& cuda, const LinformerBackwardQuery& op) {
  if (op.d_query.size() == 0) return;
  const std::int64_t tokens = op.d_query.shape[0];
  const std::int64_t heads = op.d_query.shape[1];
  const Documents documents(op.queries.document_starts, op.queries.projected, heads, tokens);
  const Vectors vectors({op.queries.query, op.gradient.d_out, op.d_query}, op.queries.projected);
  auto* dots = cuda.scratch<float>(count_dots(op.gradient));
  dot_outputs(cuda, op.gradient, dots);
  for_gpu_type(op.d_query.dtype, [&]<class T>() {
    for_head_dim(op.d_query.shape[2], [&]<int kDim>() {
      using Shape = TileShape<kDim, T>;
      launch_tiles(cuda, op.d_query.shape[2], differentiate_query<T, kDim>,
                   heads * count_blocks(tokens, Shape::kRows), Shape::kThreads,
                   kQueryBytes<T, kDim>, op, documents, vectors, dots);
    });
  });
}

}  // namespace longscan

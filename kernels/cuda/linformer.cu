// Linformer on the GPU, forward: a projected row of a document, or of a piece of it, and a token's
// output are each summed up by one warp from beginning to end.
#include "kernels/linformer.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/linformer_parts.h"

namespace longscan {

namespace {

using namespace linformer_on_gpu;

constexpr int kProjectedRows = 64;
constexpr int kProjectThreads = kProjectedRows / kTile * kWarp;
template <class T, int kDim>
constexpr std::int64_t kProjectBytes =
    TileShape<kColumns, T>::bytes(kProjectedRows) + TileShape<kDim, T>::bytes(kColumns) + 128;

// blockIdx.x: piece, document, head and rows; blockIdx.y: keys or values. op.projected: of every
// piece.
template <class T, int kDim>
__global__ void __launch_bounds__(kProjectThreads)
    project(const __grid_constant__ LinformerProject op, const Documents documents,
            const Vectors vectors, std::int64_t pieces, Faults* faults) {
  constexpr int kProjectionStride = TileShape<kColumns, T>::kStride;
  SharedArena arena;
  auto* projection = arena.take<T>(kProjectedRows * kProjectionStride);
  auto* tokens = arena.take<T>(kColumns * TileShape<kDim, T>::kStride);

  const LinformerKeys& keys = op.keys;
  const std::int64_t heads = keys.key.shape[1];
  const std::int64_t length = op.projected.shape[1];
  const std::int64_t blocks = count_blocks(length, kProjectedRows);
  const std::int64_t index = blockIdx.x / blocks;
  const std::int64_t head = index % heads;
  const std::int64_t row = blockIdx.x % blocks * kProjectedRows;
  const bool of_values = blockIdx.y == 1;
  const Run document = documents.at(index / heads % documents.count);
  if (row == 0 && head == 0 && threadIdx.x == 0) check_places(keys, document, faults);

  const PlacedRun placed(keys, document);
  const Run run = piece_of(placed.run, index / heads / documents.count, pieces);
  const auto all_rows =
      projection_of<T>(of_values ? keys.value_projection : keys.key_projection, head, length);
  const HeadRows<T> all_tokens(of_values ? keys.value : keys.key, head, vectors.tokens);
  const int band = warp_of_thread() * kTile;
  Accumulator sums[kDim / kTile];
  clear(sums);
  for (std::int64_t begin = run.begin; begin < run.end; begin += kColumns) {
    const auto keep = [&](std::int64_t token) { return token < run.end && is_kept(keys, token); };
    load_projection<kProjectedRows, kColumns>(projection, all_rows, row, length, begin, placed,
                                              keep);
    begin_to_load<kColumns, kDim>(tokens, all_tokens.from(begin),
                                  [&](int i) { return keep(begin + i); });
    wait_for_rows();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kColumnTiles; ++i) {
      const auto weights =
          load_operand<T>(projection + band * kProjectionStride + i * kTile, kProjectionStride);
      add_weighted<T, kDim>(sums, weights, tokens + i * kTile * TileShape<kDim, T>::kStride);
    }
    __syncthreads();
  }
  write_rows<false>(sums_of(op.projected, index, of_values ? 1 : 0, vectors.sums).from(row + band),
                    length - row - band, sums, 1);
}

template <class T, int kDim>
constexpr std::int64_t kAttendBytes = TileShape<kDim, T>::bytes(TileShape<kDim, T>::kRows) +
                                      2 * TileShape<kDim, float>::bytes(kColumns) + 128;

template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, T>::kThreads)
    attend(const __grid_constant__ LinformerAttend op, const Documents documents,
           const Vectors vectors) {
  constexpr int kRows = TileShape<kDim, T>::kRows, kStride = TileShape<kDim, T>::kStride;
  SharedArena arena;
  auto* query = arena.take<T>(kRows * kStride);
  auto* key = arena.take<float>(kColumns * TileShape<kDim, float>::kStride);
  auto* value = arena.take<float>(kColumns * TileShape<kDim, float>::kStride);

  const std::int64_t heads = op.out.shape[1];
  const std::int64_t length = op.queries.projected.shape[1];
  const std::int64_t head = blockIdx.x % heads;
  const std::int64_t first = blockIdx.x / heads * kRows;
  const std::int64_t end = min(op.out.shape[0], first + kRows);
  begin_to_load<kRows, kDim>(query, HeadRows<T>(op.queries.query, head, vectors.tokens).from(first),
                             [&](int row) { return first + row < end; });

  const int band = warp_of_thread() * kTile;
  const float scale = rsqrtf(static_cast<float>(op.out.shape[2]));
  AttendingRows<T, kDim> attending;
  attending.begin();
  documents.for_each(first, end, [&](const Run& run) {
    const std::int64_t index = run.document * heads + head;
    const auto keys = sums_of(op.queries.projected, index, 0, vectors.sums);
    const auto values = sums_of(op.queries.projected, index, 1, vectors.sums);
    for (std::int64_t begin = 0; begin < length; begin += kColumns) {
      begin_to_load_sums<kColumns, kDim>(key, keys, begin, length);
      begin_to_load_sums<kColumns, kDim>(value, values, begin, length);
      wait_for_rows();
      __syncthreads();
      Accumulator scores[kColumnTiles];
      multiply_rows<T, kDim>(scores, query + band * kStride, key);
      for_each_number(scores, [&](float& score, int, int row, int column) {
        const std::int64_t token = first + band + row;
        if (token < run.begin || token >= run.end || begin + column >= length) score = -INFINITY;
      });
      attending.take_in(scores, value, scale);
      __syncthreads();
    }
  });
  attending.store(HeadRows<T>(op.out, head, vectors.tokens).from(first + band),
                  data_of<float>(op.log_sum) + (first + band) * heads + head, heads,
                  end - first - band);
}

}  // namespace

void execute(Cuda& cuda, const LinformerProject& op) {
  if (op.projected.size() == 0) return;
  const LinformerKeys& keys = op.keys;
  const Documents documents(keys.document_starts, op.projected, keys.key.shape[1],
                            keys.key.shape[0]);
  const std::int64_t blocks =
      op.projected.shape[0] * count_blocks(op.projected.shape[1], kProjectedRows);
  const std::int64_t pieces = count_pieces(cuda, 2 * blocks, keys.key.shape[0]);
  LinformerProject of_pieces = op;
  of_pieces.projected = room_for_pieces(
      op.projected, cuda.scratch<float>(numbers_of_pieces(op.projected, pieces)), pieces);
  const Vectors vectors({keys.key, keys.value}, of_pieces.projected);
  for_gpu_type(keys.key.dtype, [&]<class T>() {
    for_head_dim(keys.key.shape[2], [&]<int kDim>() {
      launch_tiles(cuda, keys.key.shape[2], project<T, kDim>,
                   dim3(static_cast<unsigned>(pieces * blocks), 2), kProjectThreads,
                   kProjectBytes<T, kDim>, of_pieces, documents, vectors, pieces, cuda.faults());
    });
  });
  add_pieces(cuda, op.projected, of_pieces.projected, pieces);
}

void execute(Cuda& cuda, const LinformerAttend& op) {
  if (op.out.size() == 0) return;
  const std::int64_t tokens = op.out.shape[0];
  const std::int64_t heads = op.out.shape[1];
  const Documents documents(op.queries.document_starts, op.queries.projected, heads, tokens);
  const Vectors vectors({op.queries.query, op.out}, op.queries.projected);
  for_gpu_type(op.out.dtype, [&]<class T>() {
    for_head_dim(op.out.shape[2], [&]<int kDim>() {
      using Shape = TileShape<kDim, T>;
      launch_tiles(cuda, op.out.shape[2], attend<T, kDim>,
                   heads * count_blocks(tokens, Shape::kRows), Shape::kThreads,
                   kAttendBytes<T, kDim>, op, documents, vectors);
    });
  });
}

}  // namespace longscan

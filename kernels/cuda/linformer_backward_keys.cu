// Linformer on the GPU, backward through the projections: to the keys and values, and to E and F.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/head_dim.h"
#include "kernels/cuda/linformer_parts.h"
#include "kernels/linformer.h"

namespace longscan {

namespace {

using namespace linformer_on_gpu;

constexpr int kRows = 64;
constexpr int kThreads = kRows / kTile * kWarp;

template <class T, int kDim>
constexpr std::int64_t kTokenBytes =
    TileShape<kRows, T>::bytes(kColumns) + TileShape<kDim, float>::bytes(kColumns) + 128;

// d_key or d_value of a tile of tokens: their columns of the projection, transposed, times the
// gradients of the sums. blockIdx.x: tile and head; blockIdx.y: keys or values.
template <class T, int kDim>
__global__ void __launch_bounds__(kThreads)
    differentiate_tokens(const __grid_constant__ LinformerBackwardKeys op,
                         const Documents documents, const Vectors vectors, Faults* faults) {
  constexpr int kProjectionStride = TileShape<kRows, T>::kStride;
  SharedArena arena;
  auto* projection = arena.take<T>(kColumns * kProjectionStride);
  auto* d_sums = arena.take<float>(kColumns * TileShape<kDim, float>::kStride);

  const LinformerKeys& keys = op.keys;
  const std::int64_t heads = keys.key.shape[1];
  const std::int64_t length = op.d_projected.shape[1];
  const std::int64_t head = blockIdx.x % heads;
  const std::int64_t first = blockIdx.x / heads * kRows;
  const std::int64_t end = min(keys.key.shape[0], first + kRows);
  const bool of_values = blockIdx.y == 1;
  const auto all_rows =
      projection_of<T>(of_values ? keys.value_projection : keys.key_projection, head, length);
  const int band = warp_of_thread() * kTile;
  Accumulator sums[kDim / kTile];
  clear(sums);
  documents.for_each(first, end, [&](const Run& run) {
    const Run document = documents.at(run.document);
    if (head == 0 && threadIdx.x == 0) check_places(keys, document, faults);
    const PlacedRun placed(keys, document);
    const auto rows =
        sums_of(op.d_projected, run.document * heads + head, of_values ? 1 : 0, vectors.sums);
    for (std::int64_t begin = 0; begin < length; begin += kColumns) {
      load_projection<kColumns, kRows>(
          projection, all_rows, begin, length, first, placed,
          [&](std::int64_t token) { return token < end && is_kept(keys, token); });
      begin_to_load_sums<kColumns, kDim>(d_sums, rows, begin, length);
      wait_for_rows();
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kColumnTiles; ++i) {
        const auto weights = load_operand_transposed<T>(
            projection + i * kTile * kProjectionStride + band, kProjectionStride);
        add_weighted<T, kDim>(sums, weights, d_sums + i * kTile * TileShape<kDim, float>::kStride);
      }
      __syncthreads();
    }
  });
  write_rows<false>(
      HeadRows<T>(of_values ? op.d_value : op.d_key, head, vectors.tokens).from(first + band),
      end - first - band, sums, 1);
}

// Places of a projection that a block of threads works on.
constexpr int kPlaces = 64;
template <class T, int kDim>
constexpr std::int64_t kProjectionBytes =
    TileShape<kDim, float>::bytes(TileShape<kDim, float>::kRows) +
    TileShape<kDim, T>::bytes(kPlaces) + 128;

// One block's part of a projection: of the rows `row` on and the places `place` on of a head, or of
// all heads.
template <class T, int kDim>
struct ProjectionPart {
  static constexpr int kSumRows = TileShape<kDim, float>::kRows;

  float* d_sums;
  T* tokens;
  std::int64_t row;
  std::int64_t place;

  // Adds what one document's tokens of one head bring, of keys (0) or values (1).
  __device__ void add(Accumulator (&sums)[kPlaces / kTile], const LinformerBackwardKeys& op,
                      const PlacedRun& placed, std::int64_t head, int which,
                      const Vectors& vectors) const {
    const std::int64_t index = placed.run.document * op.keys.key.shape[1] + head;
    const std::int64_t first = placed.run.begin + place - placed.place;  // may be before it
    begin_to_load_sums<kSumRows, kDim>(d_sums, sums_of(op.d_projected, index, which, vectors.sums),
                                       row, op.d_projected.shape[1]);
    const HeadRows<T> all(which == 1 ? op.keys.value : op.keys.key, head, vectors.tokens);
    begin_to_load<kPlaces, kDim>(tokens, all.from(first), [&](int i) {
      const std::int64_t token = first + i;
      return token >= placed.run.begin && token < placed.run.end && is_kept(op.keys, token);
    });
    wait_for_rows();
    __syncthreads();
    const int band = warp_of_thread() * kTile;
    add_products<T, kDim>(sums, d_sums + band * TileShape<kDim, float>::kStride, tokens);
    __syncthreads();
  }
};

// blockIdx.x: the projection's head, or 0 of all, its rows and its places. d E and d F are made one
// after the other, since they may be one.
template <class T, int kDim>
__global__ void __launch_bounds__(TileShape<kDim, float>::kThreads, 2)
    differentiate_projections(const __grid_constant__ LinformerBackwardKeys op,
                              const Documents documents, const Vectors vectors) {
  using Part = ProjectionPart<T, kDim>;
  SharedArena arena;
  auto* d_sums = arena.take<float>(Part::kSumRows * TileShape<kDim, float>::kStride);
  auto* tokens = arena.take<T>(kPlaces * TileShape<kDim, T>::kStride);

  const std::int64_t length = op.d_projected.shape[1];
  const std::int64_t places = op.d_key_projection.shape[1];
  const std::int64_t matrices = op.d_key_projection.shape[0] / length;
  const std::int64_t heads_of_each = op.keys.key.shape[1] / matrices;
  const std::int64_t row_blocks = count_blocks(length, Part::kSumRows);
  const std::int64_t place_blocks = count_blocks(places, kPlaces);
  const std::int64_t matrix = blockIdx.x / place_blocks / row_blocks;
  const Part part{.d_sums = d_sums,
                  .tokens = tokens,
                  .row = blockIdx.x / place_blocks % row_blocks * Part::kSumRows,
                  .place = blockIdx.x % place_blocks * kPlaces};
  for (int which = 0; which < 2; ++which) {
    Accumulator sums[kPlaces / kTile];
    clear(sums);
    for (std::int64_t document = 0; document < documents.count; ++document) {
      const PlacedRun placed(op.keys, documents.at(document));
      const std::int64_t after = placed.place_of(placed.run.end);
      if (placed.place >= part.place + kPlaces || after <= part.place) continue;
      for (std::int64_t head = 0; head < heads_of_each; ++head) {
        part.add(sums, op, placed, matrix * heads_of_each + head, which, vectors);
      }
    }
    const Tensor& gradient = which == 1 ? op.d_value_projection : op.d_key_projection;
    const std::int64_t row = part.row + warp_of_thread() * kTile;
    const std::int64_t columns = min(std::int64_t{kPlaces}, places - part.place);
    const HeadRows<float> rows(
        data_of<float>(gradient) + (matrix * length + row) * places + part.place, places,
        static_cast<int>(columns), false);
    write_rows<true>(rows, length - row, sums, 1);
  }
}

}  // namespace

void execute(Cuda& cuda, const LinformerBackwardKeys& op) {
  const LinformerKeys& keys = op.keys;
  if (keys.key.size() == 0) return;
  const std::int64_t tokens = keys.key.shape[0];
  const std::int64_t heads = keys.key.shape[1];
  const std::int64_t length = op.d_projected.shape[1];
  const Documents documents(keys.document_starts, op.d_projected, heads, tokens);
  const Vectors vectors({keys.key, keys.value, op.d_key, op.d_value}, op.d_projected);
  for_gpu_type(keys.key.dtype, [&]<class T>() {
    for_head_dim(keys.key.shape[2], [&]<int kDim>() {
      const auto tiles = static_cast<unsigned>(heads * count_blocks(tokens, kRows));
      launch_tiles(cuda, keys.key.shape[2], differentiate_tokens<T, kDim>, dim3(tiles, 2), kThreads,
                   kTokenBytes<T, kDim>, op, documents, vectors, cuda.faults());
      using Shape = TileShape<kDim, float>;
      const std::int64_t parts = op.d_key_projection.shape[0] / length *
                                 count_blocks(length, Shape::kRows) *
                                 count_blocks(op.d_key_projection.shape[1], kPlaces);
      if (parts == 0) return;
      launch_tiles(cuda, keys.key.shape[2], differentiate_projections<T, kDim>, parts,
                   Shape::kThreads, kProjectionBytes<T, kDim>, op, documents, vectors);
    });
  });
}

}  // namespace longscan

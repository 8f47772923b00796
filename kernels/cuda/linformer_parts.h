// What the kernels of Linformer share: the documents of a shard, and tiles of projections and of
// projected tokens. The latter are f32, whatever the type of the tokens: beside bf16 they are
// multiplied in two parts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/faults.h"
#include "kernels/cuda/linformer_pieces.h"
#include "kernels/cuda/online_softmax.h"
#include "kernels/linformer.h"

namespace longscan::linformer_on_gpu {

using namespace attention;

/// Columns of a tile: projected tokens, or tokens, that pass by rows of the other.
constexpr int kColumns = 32;
constexpr int kColumnTiles = kColumns / kTile;

/// Tokens [begin, end) of one document.
struct Run {
  std::int64_t document;
  std::int64_t begin;
  std::int64_t end;
};

/// One of `pieces` of a run, in whole tiles of kColumns; the last ones may be empty.
__device__ inline Run piece_of(const Run& run, std::int64_t piece, std::int64_t pieces) {
  const std::int64_t tiles = (run.end - run.begin + kColumns - 1) / kColumns;
  const std::int64_t tokens = (tiles + pieces - 1) / pieces * kColumns;
  const std::int64_t begin = min(run.end, run.begin + piece * tokens);
  return {run.document, begin, min(run.end, begin + tokens)};
}

struct Documents {
  const std::int64_t* starts;
  std::int64_t count;
  std::int64_t ahead;  ///< 1 where the first document began before the shard
  std::int64_t tokens;

  /// `sums`, [documents * heads, ...], tells how many there are.
  Documents(const Tensor& document_starts, const Tensor& sums, std::int64_t heads,
            std::int64_t token_count)
      : starts(document_starts.as<std::int64_t>()),
        count(sums.shape[0] / heads),
        ahead(count - document_starts.size()),
        tokens(token_count) {}

  __device__ std::int64_t begin_of(std::int64_t document) const {
    return document < ahead ? 0 : starts[document - ahead];
  }
  /// All tokens of a document.
  __device__ Run at(std::int64_t document) const {
    return {document, begin_of(document), document + 1 < count ? begin_of(document + 1) : tokens};
  }
  /// The one that a token is of.
  __device__ std::int64_t of_token(std::int64_t token) const {
    std::int64_t first = 0, last = count - 1;
    while (first < last) {
      const std::int64_t middle = (first + last + 1) / 2;
      if (begin_of(middle) <= token) {
        first = middle;
      } else {
        last = middle - 1;
      }
    }
    return first;
  }

  /// Calls `body(run)` for the runs that tokens [begin, end) consist of.
  template <class Body>
  __device__ void for_each(std::int64_t begin, std::int64_t end, Body body) const {
    for (std::int64_t document = of_token(begin); begin < end; ++document) {
      const Run run{document, begin, min(end, at(document).end)};
      body(run);
      begin = run.end;
    }
  }
};

/// Of the keys of a document: the place of its first token here, and its tokens that have a column
/// of the projections.
struct PlacedRun {
  Run run;
  std::int64_t place;

  __device__ PlacedRun(const LinformerKeys& keys, const Run& whole) : run(whole) {
    place = data_of<std::int64_t>(keys.position)[run.begin];
    run.end = min(run.end, run.begin + max(std::int64_t{0}, keys.key_projection.shape[1] - place));
  }
  __device__ std::int64_t place_of(std::int64_t token) const { return place + token - run.begin; }
};

/// Leaves word where a document is longer than the projections.
__device__ inline void check_places(const LinformerKeys& keys, const Run& document,
                                    Faults* faults) {
  const std::int64_t last = data_of<std::int64_t>(keys.position)[document.end - 1];
  if (last >= keys.key_projection.shape[1]) report(&faults->position_beyond_projection, last);
}

__device__ inline bool is_kept(const LinformerKeys& keys, std::int64_t token) {
  return keys.key_mask.data == nullptr || data_of<std::uint8_t>(keys.key_mask)[token] != 0;
}

/// E or F of one head, [k, n].
template <class T>
__device__ HeadRows<T> projection_of(const Tensor& projection, std::int64_t head,
                                     std::int64_t length) {
  const std::int64_t columns = projection.shape[1];
  const std::int64_t first = projection.shape[0] == length ? 0 : head * length;
  return {data_of<T>(projection) + first * columns, columns, static_cast<int>(columns), false};
}

/// A document's sums for one head, [k, dim]: of keys (0) or values (1).
__device__ inline HeadRows<float> sums_of(const Tensor& sums, std::int64_t document_and_head,
                                          int which, bool vectors) {
  const std::int64_t dim = sums.shape[2] / 2;
  return {data_of<float>(sums) + document_and_head * sums.stride[0] + which * dim, sums.stride[1],
          static_cast<int>(dim), vectors};
}

/// Rows [row, row + kRows) of a projection, of `length`, to shared memory: at column i that of
/// token `first + i` if it is of the run and `keep(token)`, else zeros. By all threads of the
/// block.
template <int kRows, int kTokens, class T, class Keep>
__device__ void load_projection(T* shared, const HeadRows<T>& projection, std::int64_t row,
                                std::int64_t length, std::int64_t first, const PlacedRun& placed,
                                Keep keep) {
  constexpr int kStride = TileShape<kTokens, T>::kStride;
  const int threads = static_cast<int>(blockDim.x);
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kTokens; i += threads) {
    const int column = i % kTokens;
    const std::int64_t token = first + column;
    const std::int64_t from = row + i / kTokens;
    const bool there =
        from < length && token >= placed.run.begin && token < placed.run.end && keep(token);
    shared[i / kTokens * kStride + column] =
        there ? projection.row(from)[placed.place_of(token)] : from_float<T>(0);
  }
}

/// Rows of a document's sums, `kRows` from `row` on, to shared memory: see begin_to_load.
template <int kRows, int kDim>
__device__ void begin_to_load_sums(float* shared, const HeadRows<float>& sums, std::int64_t row,
                                   std::int64_t length) {
  begin_to_load<kRows, kDim>(shared, sums.from(row), [&](int i) { return row + i < length; });
}

/// Whether rows may be moved 16 bytes at a time: those of the tokens, and those of the sums.
struct Vectors {
  bool tokens;
  bool sums;

  template <class... Sums>
  explicit Vectors(std::initializer_list<Tensor> of_tokens, const Sums&... of_sums)
      : tokens(rows_in_vectors(of_tokens)),
        sums(rows_in_vectors({of_sums...}) &&
             (... && (of_sums.shape[2] / 2 % kVector<float> == 0))) {}
};

/// Launches need a grid: how many blocks of `size` so many are.
constexpr std::int64_t count_blocks(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

}  // namespace longscan::linformer_on_gpu

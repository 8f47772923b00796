// What the GPU kernels of linear attention are given, and what a block of them has in shared
// memory.
//
// A block works through a piece of the line of one head, chunk by chunk. Each of its warps owns 16
// rows of a chunk. Features come in tiles, one after the other, so there may be any number of them;
// the state stays in shared memory, in f32.
#pragma once

#include <limits>

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/mma.h"
#include "kernels/linear_attention.h"

namespace longscan::gpu_attention {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// [tokens, heads, columns].
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
  int columns = 0;
  bool vectors = false;  ///< rows are whole numbers of the widest accesses

  static Rows of(const Tensor& tensor) {
    if (!tensor.present()) return {};
    return {tensor.as<T>(), tensor.stride[0], tensor.stride[1],
            static_cast<int>(tensor.shape[tensor.rank - 1]), rows_in_vectors({tensor})};
  }
  __device__ T* row(std::int64_t token, std::int64_t head) const {
    return data + token * token_stride + head * head_stride;
  }
};

/// The feature map. Those of favor_hyperbolic are those of favor_softmax with the projection's rows
/// once as they are and once negated.
struct Map {
  FeatureKind kind = FeatureKind::elu1;
  const void* projection = nullptr;
  int projections = 0;
  int features = 0;
  int dim = 0;
  float scale = 1;  ///< of the products with the projection
  bool vectors = false;
  bool resident = false;  ///< all of the projection stays in shared memory

  static Map of(const FeatureMap& map, std::int64_t dim);
  __host__ __device__ bool projected() const { return projection != nullptr; }
  __host__ __device__ bool exponential() const {
    return kind == FeatureKind::favor_softmax || kind == FeatureKind::favor_hyperbolic;
  }
};

/// What all passes are given.
template <class T>
struct Call {
  Rows<T> query;
  Rows<T> key;
  Rows<T> value;
  Rows<T> d_out;
  Rows<T> out;
  Rows<float> normalizer;  ///< of one column
  const std::int64_t* starts = nullptr;
  std::int64_t starts_count = 0;
  const std::uint8_t* key_mask = nullptr;
  Map map;
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  int value_dim = 0;
  std::int64_t pieces = 1;
  std::int64_t piece_tokens = 0;

  __host__ __device__ int state_columns() const { return value_dim + (map.exponential() ? 2 : 1); }
  /// Numbers of the state of one head.
  __host__ __device__ std::int64_t state_size() const {
    return static_cast<std::int64_t>(map.features) * state_columns();
  }
};

/// The part of the work that is one block's. Neighbouring blocks work on heads whose rows are
/// neighbours in memory.
struct Place {
  std::int64_t head;
  std::int64_t piece;
  std::int64_t begin;
  std::int64_t end;

  template <class T>
  __device__ explicit Place(const Call<T>& call, std::int64_t first_piece = 0)
      : head(blockIdx.x % call.heads), piece(first_piece + blockIdx.x / call.heads) {
    begin = piece * call.piece_tokens;
    end = begin + call.piece_tokens < call.tokens ? begin + call.piece_tokens : call.tokens;
  }
  /// Where the states of this place begin in a table of [pieces, heads] states.
  template <class T>
  __device__ std::int64_t offset(const Call<T>& call) const {
    return (piece * call.heads + head) * call.state_size();
  }
};

/// Extents known when a kernel is compiled: kDim is the larger of dim and value_dim, or the next
/// size above, with zeros in between.
template <class T, int kDim>
struct Sizes {
  // f32 at the largest size has no room for more rows.
  static constexpr int kWarps = sizeof(T) == 4 && kDim == 128 ? 2 : 4;
  static constexpr int kThreads = 32 * kWarps;
  /// Blocks that a multiprocessor's shared memory has room for, and so its registers must.
  static constexpr int kBlocks = kDim == 128 ? 1 : sizeof(T) == 4 ? 2 : 3;
  static constexpr int kBackwardBlocks = kDim == 128 ? 1 : 2;
  static constexpr int kRows = mma::kTile * kWarps;        ///< tokens of a chunk
  static constexpr int kFeatures = kDim < 64 ? kDim : 64;  ///< of a tile of features
  static constexpr int kRowTiles = kRows / mma::kTile;
  static constexpr int kDimTiles = kDim / mma::kTile;
  static constexpr int kFeatureTiles = kFeatures / mma::kTile;
  static constexpr int kStride = kDim + mma::kPadding;
  static constexpr int kPhiStride = kFeatures + mma::kPadding;
  // The state is read as f32 and mostly by columns.
  static constexpr int kStateStride = kDim + 4;

  __host__ __device__ static int tiles(const Map& map) {
    return (map.features + kFeatures - 1) / kFeatures;
  }
};

template <class T, int kDim>
struct Block : Sizes<T, kDim> {
  using S = Sizes<T, kDim>;
  static constexpr int kMostInputs = 4;

  const Map& map;
  int lane;
  int warp;
  T* inputs[kMostInputs];  ///< [kRows, kStride]: rows of the chunk
  T* phi;                  ///< [kRows, kPhiStride]: a tile of the features that are summed
  T* projection;           ///< [kFeatures or all features, kStride]
  float* sum;              ///< [features, kStateStride]
  float* normalizer;       ///< [features]
  float* weights;          ///< [kCheckpointTokens], or of a chunk [kRows]: -(d_out . out)
  // Of exponential maps, [features] and [kFeatures].
  float* exponent;
  float* highest;         ///< exponents that the chunk's features are relative to
  float* next;            ///< exponents of the state behind the chunk, where they are others
  float* ratio;           ///< what the tile's sums are multiplied by
  float* sent_reference;  ///< what is subtracted from the tile's exponents
  float* seen_reference;
  float* first;         ///< exponents of the first key that is attended to
  float* warp_highest;  ///< [kWarps, kFeatures]

  /// Only backward has all inputs; its weights are found once and looked at twice.
  __host__ __device__ static constexpr int weights_beside(int inputs) {
    return inputs < kMostInputs ? S::kRows : static_cast<int>(kCheckpointTokens);
  }

  /// Bytes of what the constructor takes.
  static std::int64_t shared_bytes(const Map& map, int inputs) {
    const std::int64_t features = S::tiles(map) * S::kFeatures;
    const auto padded = [](std::int64_t count, std::size_t size) {
      return (count * static_cast<std::int64_t>(size) + 127) / 128 * 128;
    };
    std::int64_t bytes = inputs * padded(S::kRows * S::kStride, sizeof(T)) +
                         padded(S::kRows * S::kPhiStride, sizeof(T)) +
                         padded(features * S::kStateStride, sizeof(float)) +
                         padded(features, sizeof(float)) +
                         padded(weights_beside(inputs), sizeof(float));
    if (map.projected()) {
      bytes += padded((map.resident ? features : S::kFeatures) * S::kStride, sizeof(T));
    }
    if (map.exponential()) {
      bytes += 3 * padded(features, sizeof(float)) + 4 * padded(S::kFeatures, sizeof(float)) +
               padded(S::kWarps * S::kFeatures, sizeof(float));
    }
    return bytes;
  }

  __device__ Block(const Map& feature_map, int input_count) : map(feature_map) {
    lane = static_cast<int>(threadIdx.x) % 32;
    warp = static_cast<int>(threadIdx.x) / 32;
    const std::size_t features = static_cast<std::size_t>(S::tiles(map)) * S::kFeatures;
    SharedArena arena;
    for (int i = 0; i < kMostInputs; ++i) {
      inputs[i] = i < input_count ? arena.take<T>(S::kRows * S::kStride) : nullptr;
    }
    phi = arena.take<T>(S::kRows * S::kPhiStride);
    sum = arena.take<float>(features * S::kStateStride);
    normalizer = arena.take<float>(features);
    weights = arena.take<float>(weights_beside(input_count));
    const std::size_t projected = map.resident ? features : S::kFeatures;
    projection = map.projected() ? arena.take<T>(projected * S::kStride) : nullptr;
    exponent = highest = next = ratio = sent_reference = seen_reference = first = warp_highest =
        nullptr;
    if (!map.exponential()) return;
    exponent = arena.take<float>(features);
    highest = arena.take<float>(features);
    next = arena.take<float>(features);
    ratio = arena.take<float>(S::kFeatures);
    sent_reference = arena.take<float>(S::kFeatures);
    seen_reference = arena.take<float>(S::kFeatures);
    first = arena.take<float>(S::kFeatures);
    warp_highest = arena.take<float>(S::kWarps * S::kFeatures);
  }

  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int tiles() const { return S::tiles(map); }
  /// The rows of a tile of the projection.
  __device__ T* projection_of(int tile) const {
    return projection + (map.resident ? tile * S::kFeatures * S::kStride : 0);
  }
  /// The warp's rows of an input.
  __device__ T* own(int input) const { return inputs[input] + warp * mma::kTile * S::kStride; }
  /// The chunk's row that a lane's number of a tile of the warp's rows belongs to.
  __device__ int row(int index) const { return warp * mma::kTile + mma::row_of(lane, index); }
};

}  // namespace longscan::gpu_attention

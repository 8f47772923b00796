// How the CPU kernels of linear attention share their work out: heads, and parts of the line where
// heads are too few.
#pragma once

#include <functional>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/linear_attention_chunks.h"

namespace longscan::attention {

struct Sizes {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t features;
  std::int64_t value_dim;
};

inline Sizes sizes_of(const Tensor& query, const Tensor& value) {
  return {query.shape[0], query.shape[1], query.shape[2], value.shape[2]};
}

/// Zeros above the diagonal of a tile of scores, for tokens do not see what follows them; what
/// stays gets its row's weight added (nothing where weights are absent).
template <class T>
void keep_lower_triangle(T* tile, std::int64_t count, const T* weights) {
  using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  for (Index row = 0; row < count; ++row) {
    T* values = tile + row * kChunk;
    const T weight = weights ? weights[row] : T{0};
#pragma omp simd
    for (Index column = 0; column < kChunk; ++column) {
      const T kept = values[column] + weight;
      values[column] = column <= row ? kept : T{0};
    }
  }
}

/// Copies `count` rows of one head, padding each with zeros to `stride`; prefetches the rows
/// `ahead` tokens further.
template <class T>
void copy_rows(T* out, std::int64_t stride, HeadView<T> in, std::int64_t begin, std::int64_t count,
               std::int64_t columns, std::int64_t ahead) {
  for (std::int64_t row = 0; row < count; ++row) {
    const T* from = in.row(begin + row);
    T* to = out + row * stride;
    prefetch_row(in.row(begin + row + ahead), columns);
#pragma omp simd
    for (std::int64_t i = 0; i < columns; ++i) to[i] = from[i];
    for (std::int64_t i = columns; i < stride; ++i) to[i] = T{0};
  }
}

/// Scratch memory of one thread. Matrices are [kChunk, features or value_dim padded] unless they
/// say otherwise.
template <class T>
struct Workspace {
  HeadSizes sizes{};
  HeadState<T> state;
  T* phi_query = nullptr;
  T* phi_key = nullptr;
  T* d_phi = nullptr;
  T* values = nullptr;
  T* rows = nullptr;           // out or d_value before it is written
  T* scaled = nullptr;         // d_out / normalizer
  T* weight = nullptr;         // [kChunk]: -(d_out . out) / normalizer
  T* scores = nullptr;         // [kChunk, kChunk]
  T* d_scores = nullptr;       // [kChunk, kChunk]
  T* key_columns = nullptr;    // phi_key transposed, [features, kChunk]
  T* value_columns = nullptr;  // values transposed, [value_dim, kChunk]
  T* state_columns = nullptr;  // state.sum transposed, [value_dim, padded features]

  static Workspace of(Cpu& cpu, int thread, const Sizes& line) {
    Workspace space;
    const auto sizes = HeadSizes::of<T>(line.features, line.value_dim);
    space.sizes = sizes;
    // A transposition reads whole squares of vectors, so the state's rows reach to the padded
    // features.
    const std::int64_t state = sizes.padded_features * (sizes.padded_value_dim + 1);
    const std::int64_t by_features = kChunk * sizes.padded_features;
    const std::int64_t by_values = kChunk * sizes.padded_value_dim;
    Carve<T> carve(cpu.scratch<T>(thread, Carve<T>::padded(state) + 4 * by_features +
                                              4 * by_values + 2 * kChunk * kChunk + kChunk +
                                              sizes.padded_value_dim * sizes.padded_features));
    space.state = HeadState<T>::in(carve.take(state), sizes);
    for (T** matrix : {&space.phi_query, &space.phi_key, &space.d_phi, &space.key_columns}) {
      *matrix = carve.take(by_features);
    }
    for (T** matrix : {&space.values, &space.rows, &space.scaled, &space.value_columns}) {
      *matrix = carve.take(by_values);
    }
    space.scores = carve.take(kChunk * kChunk);
    space.d_scores = carve.take(kChunk * kChunk);
    space.weight = carve.take(kChunk);
    space.state_columns = carve.take(sizes.padded_value_dim * sizes.padded_features);
    return space;
  }

  void map_queries(const Chunk& chunk, const Tensor& query, std::int64_t head, FeatureMap map) {
    map_features(map, phi_query, sizes.padded_features, head_view<T>(query, head), chunk.begin,
                 chunk.size(), sizes.features, chunk.ahead);
  }
  void map_keys(const Chunk& chunk, const Tensor& key, std::int64_t head, FeatureMap map) {
    map_features(map, phi_key, sizes.padded_features, head_view<T>(key, head), chunk.begin,
                 chunk.size(), sizes.features, chunk.ahead);
  }
  void load_values(const Chunk& chunk, const Tensor& value, std::int64_t head) {
    copy_rows(values, sizes.padded_value_dim, head_view<T>(value, head), chunk.begin, chunk.size(),
              sizes.value_dim, chunk.ahead);
  }

  /// scores = tril(phi_q phi_k^T).
  void score(const Chunk& chunk) {
    const std::int64_t count = chunk.size();
    tile::transpose(key_columns, kChunk, phi_key, sizes.padded_features, count, sizes.features);
    tile::multiply<T>({scores, kChunk}, {phi_query, sizes.padded_features, 1},
                      {key_columns, kChunk}, count, tile::padded<T>(count), sizes.features, false,
                      tile::Shape::lower_result);
    keep_lower_triangle<T>(scores, count, nullptr);
  }
};

/// One head's tokens [begin, end): what one call of a kernel's body works through.
struct Piece {
  std::int64_t head;
  std::int64_t begin;
  std::int64_t end;
};

/// Which way the state travels: S forward, R backward.
enum class ScanDirection { forward, backward };

template <class T>
using PieceBody = std::function<void(const Piece&, Workspace<T>&)>;

inline bool has_start(const Tensor& document_starts, std::int64_t begin, std::int64_t end) {
  const auto* first = document_starts.as<std::int64_t>();
  const auto* last = first + document_starts.size();
  const auto* start = std::lower_bound(first, last, begin);
  return start != last && *start < end;
}

/// The cut of a line into heads x parts, with one state a piece: first the piece's own sum, after
/// `scan` what comes before it (behind it in backward direction).
template <class T>
class Parts {
 public:
  Parts(Cpu& cpu, const Sizes& sizes, ScanDirection direction, const Tensor& document_starts)
      : cpu_(cpu), sizes_(sizes), direction_(direction), document_starts_(document_starts) {
    // Parts shorter than this are not worth their extra sum.
    constexpr std::int64_t kShortest = 256;
    const std::int64_t wanted = sizes.heads % cpu.threads() == 0 ? 1 : cpu.threads();
    parts_ = std::clamp<std::int64_t>(sizes.tokens / kShortest, 1, wanted);
    head_ = HeadSizes::of<T>(sizes.features, sizes.value_dim);
    count_ = Carve<T>::padded(HeadState<T>::count(head_));
    slots_ = cpu.shared_scratch<T>(sizes.heads * parts_ * count_);
  }

  /// Calls `sum`, which leaves a piece's sum in space.state, for all pieces.
  void sum(const PieceBody<T>& sum) {
    cpu_.for_each(sizes_.heads * parts_, [&](std::int64_t index, int thread) {
      Workspace<T> space = Workspace<T>::of(cpu_, thread, sizes_);
      sum(piece(index), space);
      slot(index).copy_from(space.state);
    });
  }

  /// Turns the sums into what comes before each piece, beginning with `outer` ([heads, features,
  /// value_dim + 1], or absent: nothing). The state beyond the last piece goes to `beyond` where
  /// that is present.
  void scan(const Tensor& outer, const Tensor& beyond) {
    cpu_.for_each(sizes_.heads, [&](std::int64_t head, int thread) {
      HeadState<T> running = Workspace<T>::of(cpu_, thread, sizes_).state;
      load(running, outer, head);
      for (std::int64_t i = 0; i < parts_; ++i) {
        const std::int64_t part = direction_ == ScanDirection::forward ? i : parts_ - 1 - i;
        pass_on(head * parts_ + part, running);
      }
      if (beyond.present()) running.store(beyond.as<T>() + head * beyond.stride[0]);
    });
  }

  /// Calls `body` for all pieces with the state at the piece's near end in space.state. A line that
  /// is cut is summed up by `sum` and scanned before.
  void run(const Tensor& outer, const PieceBody<T>& sum_piece, const PieceBody<T>& body) {
    if (parts_ > 1) {
      sum(sum_piece);
      scan(outer, {});
    }
    cpu_.for_each(sizes_.heads * parts_, [&](std::int64_t index, int thread) {
      Workspace<T> space = Workspace<T>::of(cpu_, thread, sizes_);
      if (parts_ > 1) {
        space.state.copy_from(slot(index));
      } else {
        load(space.state, outer, index);
      }
      body(piece(index), space);
    });
  }

 private:
  Piece piece(std::int64_t index) const {
    const std::int64_t part = index % parts_;
    return {index / parts_, sizes_.tokens * part / parts_, sizes_.tokens * (part + 1) / parts_};
  }
  HeadState<T> slot(std::int64_t index) const {
    return HeadState<T>::in(slots_ + index * count_, head_);
  }
  static void load(HeadState<T>& state, const Tensor& packed, std::int64_t head) {
    packed.present() ? state.load(packed.as<T>() + head * packed.stride[0]) : state.clear();
  }

  // The slot takes the running state and gives its own sum to it; a document border in the piece
  // cuts what was before.
  void pass_on(std::int64_t index, HeadState<T>& running) const {
    const Piece here = piece(index);
    T* own = slot(index).sum;
    const bool keep = !has_start(document_starts_, here.begin, here.end);
    for (std::int64_t i = 0; i < HeadState<T>::count(head_); ++i) {
      const T behind = keep ? running.sum[i] + own[i] : own[i];
      own[i] = running.sum[i];
      running.sum[i] = behind;
    }
  }

  Cpu& cpu_;
  Sizes sizes_;
  ScanDirection direction_;
  Tensor document_starts_;
  HeadSizes head_{};
  std::int64_t parts_;
  std::int64_t count_;
  T* slots_;
};

/// space.state = S of the piece, from its last document start on.
template <class T, class Operation>
void sum_keys(const Piece& piece, Workspace<T>& space, const Operation& op) {
  space.state.clear();
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.previous(chunk);) {
    space.map_keys(chunk, op.key, piece.head, op.feature_map);
    space.load_values(chunk, op.value, piece.head);
    space.state.accumulate(space.phi_key, space.values, chunk.size());
    space.state.accumulate_normalizer(space.phi_key, nullptr, chunk.size());
    if (chunk.starts_document) break;
  }
}

}  // namespace longscan::attention

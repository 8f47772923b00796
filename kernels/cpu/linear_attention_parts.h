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

/// Zeros above the diagonal of a [count, count] tile: tokens do not see what follows them.
template <class T>
void keep_lower_triangle(T* tile, std::int64_t count) {
  for (std::int64_t row = 0; row < count; ++row) {
    std::fill(tile + row * count + row + 1, tile + (row + 1) * count, T{0});
  }
}

/// The upstream gradient of numerator and normaliser for one chunk:
/// scaled = d_out / normalizer, weight = -(d_out . out) / normalizer.
template <class T>
struct ChunkGradient {
  T* scaled;  // [kChunk, value_dim]
  T* weight;  // [kChunk]

  void compute(const Chunk& chunk, HeadView<T> d_out, HeadView<T> out, HeadView<T> normalizer,
               std::int64_t value_dim) {
    for (std::int64_t i = 0; i < chunk.size(); ++i) {
      const std::int64_t token = chunk.begin + i;
      const T* gradient = d_out.row(token);
      const T* output = out.row(token);
      const T inverse = T{1} / *normalizer.row(token);
      T dot = 0;
#pragma omp simd reduction(+ : dot)
      for (std::int64_t d = 0; d < value_dim; ++d) {
        dot += gradient[d] * output[d];
        scaled[i * value_dim + d] = gradient[d] * inverse;
      }
      weight[i] = -dot * inverse;
    }
  }
};

/// Scratch memory of one thread: state, mapped queries and keys, two square tiles, the chunk's
/// gradient.
template <class T>
struct Workspace {
  HeadState<T> state;
  T* phi_query;
  T* phi_key;
  T* d_phi;
  T* scores;
  T* d_scores;
  ChunkGradient<T> gradient;

  static Workspace of(Cpu& cpu, int thread, const Sizes& sizes) {
    const std::int64_t rows = kChunk * sizes.features;
    const std::int64_t state = HeadState<T>::count(sizes.features, sizes.value_dim);
    Carve<T> carve(cpu.scratch<T>(thread, Carve<T>::padded(state) + 3 * Carve<T>::padded(rows) +
                                              2 * kChunk * kChunk +
                                              Carve<T>::padded(kChunk * sizes.value_dim) + kChunk));
    Workspace space;
    space.state = HeadState<T>::in(carve.take(state), sizes.features, sizes.value_dim);
    space.phi_query = carve.take(rows);
    space.phi_key = carve.take(rows);
    space.d_phi = carve.take(rows);
    space.scores = carve.take(kChunk * kChunk);
    space.d_scores = carve.take(kChunk * kChunk);
    space.gradient = {carve.take(kChunk * sizes.value_dim), carve.take(kChunk)};
    return space;
  }
};

/// One head's tokens [begin, end): what one call of a kernel's body works through.
struct Piece {
  std::int64_t head;
  std::int64_t begin;
  std::int64_t end;
};

/// Which way the state travels: S forward, R backward.
enum class Direction { forward, backward };

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
  Parts(Cpu& cpu, const Sizes& sizes, Direction direction, const Tensor& document_starts)
      : cpu_(cpu), sizes_(sizes), direction_(direction), document_starts_(document_starts) {
    // Parts shorter than this are not worth their extra sum.
    constexpr std::int64_t kShortest = 256;
    const std::int64_t wanted = sizes.heads % cpu.threads() == 0 ? 1 : cpu.threads();
    parts_ = std::clamp<std::int64_t>(sizes.tokens / kShortest, 1, wanted);
    count_ = Carve<T>::padded(HeadState<T>::count(sizes.features, sizes.value_dim));
    slots_ = cpu.shared_scratch<T>(sizes.heads * parts_ * count_);
  }

  /// Calls `sum`, which leaves a piece's sum in space.state, for all pieces.
  void sum(const PieceBody<T>& sum) {
    cpu_.for_each(sizes_.heads * parts_, [&](std::int64_t index, int thread) {
      Workspace<T> space = Workspace<T>::of(cpu_, thread, sizes_);
      sum(piece(index), space);
      std::copy_n(space.state.sum, count_, slot(index).sum);
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
        const std::int64_t part = direction_ == Direction::forward ? i : parts_ - 1 - i;
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
        std::copy_n(slot(index).sum, count_, space.state.sum);
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
    return HeadState<T>::in(slots_ + index * count_, sizes_.features, sizes_.value_dim);
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
    for (std::int64_t i = 0; i < count_; ++i) {
      const T behind = keep ? running.sum[i] + own[i] : own[i];
      own[i] = running.sum[i];
      running.sum[i] = behind;
    }
  }

  Cpu& cpu_;
  Sizes sizes_;
  Direction direction_;
  Tensor document_starts_;
  std::int64_t parts_;
  std::int64_t count_;
  T* slots_;
};

/// space.state = S of the piece, from its last document start on.
template <class T, class Operation>
void sum_keys(const Piece& piece, Workspace<T>& space, const Operation& op) {
  const HeadView<T> keys = head_view<T>(op.key, piece.head);
  const HeadView<T> values = head_view<T>(op.value, piece.head);
  space.state.clear();
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.previous(chunk);) {
    map_features(op.feature_map, space.phi_key, keys, chunk.begin, chunk.size(),
                 space.state.features);
    space.state.accumulate(space.phi_key, values.row(chunk.begin), values.stride, nullptr,
                           chunk.size());
    if (chunk.starts_document) break;
  }
}

}  // namespace longscan::attention

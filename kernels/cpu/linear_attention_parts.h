// How the CPU kernels of linear attention share their work out: heads, documents where attention is
// not causal, and parts of the line where these are too few.
#pragma once

#include <functional>

#include "kernels/cpu/linear_attention_workspace.h"

namespace longscan::attention {

/// One head's tokens [begin, end): what one call of a kernel's body works through.
struct Piece {
  std::int64_t head;
  std::int64_t begin;
  std::int64_t end;
};

template <class T>
using PieceBody = std::function<void(const Piece&, Workspace<T>&)>;

/// States that come to a shard from outside, [heads, features, columns] or absent.
struct OuterStates {
  Tensor before;
  Tensor behind;
};

/// Cuts a shard into pieces with one state each. `sum` leaves in space.state what the tokens of a
/// piece's side add up to: those from its last document start on for the back, those before its
/// first one for the front.
template <class T>
class Parts {
 public:
  /// `like` and `value` give tokens, heads, dim and value_dim.
  Parts(Cpu& cpu, const LinearAttentionInput& input, const Tensor& like, const Tensor& value,
        PieceBody<T> sum)
      : cpu_(cpu),
        document_starts_(input.document_starts),
        tokens_(like.shape[0]),
        heads_(like.shape[1]),
        sum_(std::move(sum)) {
    const FeatureMap& map = input.feature_map;
    const std::int64_t dim = like.shape[2];
    sizes_ = HeadSizes::of<T>(map.features(dim), value.shape[2], map.is_exponential());
    // Parts shorter than this are not worth their extra sum.
    constexpr std::int64_t kShortest = 256;
    const std::int64_t wanted = heads_ % cpu.threads() == 0 ? 1 : cpu.threads();
    parts_ = std::clamp<std::int64_t>(tokens_ / kShortest, 1, wanted);
    count_ = Carve<T>::padded(HeadState<T>::count(sizes_));
    const std::int64_t packed = Features<T>::count(map, dim);
    T* memory = cpu.shared_scratch<T>(packed + heads_ * parts_ * count_);
    features_ = Features<T>::pack(map, dim, memory);
    slots_ = memory + packed;
  }

  /// out = the sum of the shard's side, [heads, features, columns].
  void sum(ShardSide side, const Tensor& out) {
    sum_pieces();
    scan(side, {}, out);
  }

  /// Calls `body` for all pieces with the state at the piece's end in space.state: with `back` of
  /// what comes before it, with `front` of what comes behind it, within the document there.
  void run(ShardSide side, const Tensor& outer, const PieceBody<T>& body) {
    if (parts_ > 1) {
      sum_pieces();
      scan(side, outer, {});
    }
    cpu_.for_each(heads_ * parts_, [&](std::int64_t index, int thread) {
      Workspace<T> space = workspace(thread);
      parts_ > 1 ? space.state.copy_from(slot(index)) : load(space.state, outer, index);
      body(piece(index), space);
    });
  }

  /// Calls `body` for pieces of documents with the state of the whole document in space.state.
  void run_documents(const OuterStates& outer, const PieceBody<T>& body) {
    if (tokens_ == 0) return;
    const std::int64_t documents = count_documents();
    // Documents are enough to share out, or else there are few enough to be cut as well.
    if (parts_ > 1 && heads_ * documents < cpu_.threads()) {
      run_cut_documents(documents, outer, body);
      return;
    }
    cpu_.for_each(heads_ * documents, [&](std::int64_t index, int thread) {
      Workspace<T> space = workspace(thread);
      const std::int64_t document = index / heads_;
      const Piece whole = document_piece(index % heads_, document);
      sum_(whole, space);
      join_outer(space.state, space.near, outer, whole);
      body(whole, space);
    });
  }

 private:
  Workspace<T> workspace(int thread) { return Workspace<T>::of(cpu_, thread, features_, sizes_); }

  Piece piece(std::int64_t index) const {
    const std::int64_t part = index % parts_;
    return {index / parts_, tokens_ * part / parts_, tokens_ * (part + 1) / parts_};
  }
  HeadState<T> slot(std::int64_t index) const {
    return HeadState<T>::in(slots_ + index * count_, sizes_);
  }
  static void load(HeadState<T>& state, const Tensor& packed, std::int64_t head) {
    packed.present() ? state.load(packed.as<T>() + head * packed.stride[0]) : state.clear();
  }

  void sum_pieces() {
    cpu_.for_each(heads_ * parts_, [&](std::int64_t index, int thread) {
      Workspace<T> space = workspace(thread);
      sum_(piece(index), space);
      slot(index).copy_from(space.state);
    });
  }

  // Turns the pieces' sums into what comes before each (behind it for the front), beginning with
  // `outer`. The state beyond the last piece goes to `beyond` where that is present.
  void scan(ShardSide side, const Tensor& outer, const Tensor& beyond) {
    cpu_.for_each(heads_, [&](std::int64_t head, int thread) {
      Workspace<T> space = workspace(thread);
      load(space.state, outer, head);
      for (std::int64_t i = 0; i < parts_; ++i) {
        pass_on(head * parts_ + (side == ShardSide::back ? i : parts_ - 1 - i), space);
      }
      if (beyond.present()) space.state.store(beyond.as<T>() + head * beyond.stride[0]);
    });
  }

  // The slot takes the running state and gives its own sum to it; a document border in the piece
  // cuts what was before.
  void pass_on(std::int64_t index, Workspace<T>& space) const {
    const Piece here = piece(index);
    HeadState<T> own = slot(index);
    space.near.copy_from(own);
    own.copy_from(space.state);
    if (has_start(document_starts_, here.begin, here.end)) space.state.clear();
    space.state.join(space.near);
  }

  std::int64_t count_documents() const {
    const bool starts_at_once = has_start(document_starts_, 0, 1);
    return document_starts_.size() + (starts_at_once ? 0 : 1);
  }
  Piece document_piece(std::int64_t head, std::int64_t document) const {
    const auto* starts = document_starts_.as<std::int64_t>();
    const std::int64_t count = document_starts_.size();
    // Where no document starts at token 0, the first one has no start here.
    const std::int64_t first = document - (has_start(document_starts_, 0, 1) ? 0 : 1);
    return {head, first < 0 ? 0 : starts[first], first + 1 < count ? starts[first + 1] : tokens_};
  }

  // Adds what the document of `piece` has outside of the shard. `buffer` is overwritten.
  void join_outer(HeadState<T>& state, HeadState<T>& buffer, const OuterStates& outer,
                  const Piece& piece) const {
    const auto join = [&](const Tensor& packed) {
      buffer.load(packed.as<T>() + piece.head * packed.stride[0]);
      state.join(buffer);
    };
    if (outer.before.present() && !has_start(document_starts_, 0, piece.begin + 1)) {
      join(outer.before);
    }
    if (outer.behind.present() && !has_start(document_starts_, piece.begin + 1, tokens_)) {
      join(outer.behind);
    }
  }

  void run_cut_documents(std::int64_t documents, const OuterStates& outer,
                         const PieceBody<T>& body) {
    const auto part_of = [&](const Piece& whole, std::int64_t part) {
      const std::int64_t size = whole.end - whole.begin;
      return Piece{whole.head, whole.begin + size * part / parts_,
                   whole.begin + size * (part + 1) / parts_};
    };
    for (std::int64_t document = 0; document < documents; ++document) {
      cpu_.for_each(heads_ * parts_, [&](std::int64_t index, int thread) {
        Workspace<T> space = workspace(thread);
        sum_(part_of(document_piece(index / parts_, document), index % parts_), space);
        slot(index).copy_from(space.state);
      });
      cpu_.for_each(heads_ * parts_, [&](std::int64_t index, int thread) {
        Workspace<T> space = workspace(thread);
        const Piece whole = document_piece(index / parts_, document);
        space.state.clear();
        for (std::int64_t part = 0; part < parts_; ++part) {
          space.state.join(slot(whole.head * parts_ + part));
        }
        join_outer(space.state, space.near, outer, whole);
        body(part_of(whole, index % parts_), space);
      });
    }
  }

  Cpu& cpu_;
  Tensor document_starts_;
  std::int64_t tokens_;
  std::int64_t heads_;
  PieceBody<T> sum_;
  HeadSizes sizes_{};
  Features<T> features_;
  std::int64_t parts_ = 1;
  std::int64_t count_ = 0;
  T* slots_ = nullptr;
};

/// space.state = S of the tokens on one side of a piece.
template <class T>
void sum_keys(const Piece& piece, Workspace<T>& space, const LinearAttentionInput& input,
              ShardSide side) {
  HeadState<T>& state = space.state;
  state.clear();
  ChunkWalk walk(input.document_starts, piece.begin, piece.end);
  const bool back = side == ShardSide::back;
  for (Chunk chunk; back ? walk.previous(chunk) : walk.next(chunk) && !chunk.starts_document;) {
    const std::int64_t count = chunk.size();
    space.map_keys(chunk, input, piece.head);
    space.load_values(chunk, input.value, piece.head);
    if (state.exponent) {
      space.find_highest(state.exponent, count);
      state.raise_exponents(space.highest, space.ratio);
      space.exponentiate_keys(state.exponent, count);
    }
    state.accumulate(space.phi_key, space.values, count);
    state.accumulate_normalizer(space.phi_key, nullptr, count);
    if (back && chunk.starts_document) break;
  }
}

}  // namespace longscan::attention

// Linear attention on the CPU, forward: chunks of tokens through matrix products.
//
// In chunks, with S the state before the chunk:  O = phi_q S + tril(phi_q phi_k^T) V, then S +=
// phi_k^T V. Where attention is not causal, S is the document's and O = phi_q S.
#include "kernels/linear_attention.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/linear_attention_parts.h"

namespace longscan {

namespace {

using namespace attention;

// out = numerator / normaliser of one chunk, `scored` adding its own keys; zeros where there is no
// key.
template <class T>
void attend_chunk(const Chunk& chunk, Workspace<T>& space, HeadView<T> out, HeadView<T> normalizer,
                  bool scored) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t count = chunk.size();
  const tile::Result<T> rows{space.rows, sizes.padded_value_dim};
  tile::multiply<T>(rows, {space.phi_query, sizes.padded_features, 1},
                    {space.state.sum, sizes.padded_value_dim}, count, sizes.padded_value_dim,
                    sizes.features, false);
  if (scored) {
    space.score(count);
    tile::multiply<T>(rows, {space.scores, kChunk, 1}, {space.values, sizes.padded_value_dim},
                      count, sizes.padded_value_dim, count, true, tile::Shape::lower_left);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const T* query = space.phi_query + i * sizes.padded_features;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t f = 0; f < sizes.features; ++f) total += query[f] * space.state.normalizer[f];
    if (scored) {
      const T* scores = space.scores + i * kChunk;
#pragma omp simd reduction(+ : total)
      for (std::int64_t j = 0; j < count; ++j) total += scores[j];
    }
    const T inverse = total == T{0} ? T{0} : T{1} / total;
    *normalizer.row(chunk.begin + i) = total;
    const T* numerator = space.rows + i * sizes.padded_value_dim;
    T* row = out.row(chunk.begin + i);
    prefetch_row_to_write(out.row(chunk.begin + i + chunk.ahead), sizes.value_dim);
#pragma omp simd
    for (std::int64_t d = 0; d < sizes.value_dim; ++d) row[d] = numerator[d] * inverse;
  }
}

// The normaliser as its logarithm; of a token that sees no key infinity, so that nothing divided by
// it is left.
template <class T>
void take_logarithms(const Chunk& chunk, const Workspace<T>& space, HeadView<T> normalizer) {
  for (std::int64_t i = 0; i < chunk.size(); ++i) {
    T& value = *normalizer.row(chunk.begin + i);
    value = value == T{0} ? std::numeric_limits<T>::infinity() : std::log(value) + space.offset[i];
  }
}

// Keys of exponential maps: the chunk is cut where they rise too far; the state and they come to
// the same exponents.
template <class T>
void bring_to_exponents(ChunkWalk& walk, Chunk& chunk, Workspace<T>& space) {
  HeadState<T>& state = space.state;
  space.find_highest(state.exponent, chunk.size());
  while (chunk.size() > 1 && space.rises_too_far(chunk.size())) {
    walk.shorten_end(chunk);
    space.find_highest(state.exponent, chunk.size());
  }
  state.raise_exponents(space.highest, space.ratio);
  space.exponentiate_keys(state.exponent, chunk.size());
}

template <class T>
void attend(const Piece& piece, Workspace<T>& space, const LinearAttention& op) {
  const LinearAttentionInput& input = op.input;
  const HeadView<T> normalizer = head_view<T>(op.normalizer, piece.head);
  HeadState<T>& state = space.state;
  ChunkWalk walk(input.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    if (input.causal) {
      if (chunk.starts_document) state.clear();
      space.map_keys(chunk, input, piece.head);
      if (state.exponent) bring_to_exponents(walk, chunk, space);
      space.load_values(chunk, input.value, piece.head);
    }
    space.map_queries(chunk, input.query, piece.head);
    if (state.exponent) {
      space.find_offsets(state.exponent, chunk.size());
      space.exponentiate_queries(state.exponent, chunk.size());
    }
    attend_chunk(chunk, space, head_view<T>(op.out, piece.head), normalizer, input.causal);
    if (state.exponent) take_logarithms(chunk, space, normalizer);
    if (input.causal) {
      state.accumulate(space.phi_key, space.values, chunk.size());
      state.accumulate_normalizer(space.phi_key, nullptr, chunk.size());
    }
  }
}

// The state takes one key in; exponents as in a chunk of one token.
template <class T>
void take_in(HeadState<T>& state, Workspace<T>& space, const T* value) {
  const HeadSizes& sizes = space.sizes;
  if (state.exponent) {
    space.find_highest(state.exponent, 1);
    state.raise_exponents(space.highest, space.ratio);
    space.exponentiate_keys(state.exponent, 1);
  }
  for (std::int64_t f = 0; f < sizes.features; ++f) {
    T* row = state.sum + f * sizes.padded_value_dim;
    for (std::int64_t d = 0; d < sizes.value_dim; ++d) row[d] += space.phi_key[f] * value[d];
    state.normalizer[f] += space.phi_key[f];
  }
}

template <class T>
void step(Cpu& cpu, const LinearAttentionStep& op) {
  const LinearAttentionInput& input = op.input;
  const std::int64_t dim = input.query.shape[2];
  const FeatureMap& map = input.feature_map;
  T* packed = cpu.shared_scratch<T>(Features<T>::count(map, dim));
  const Features<T> features = Features<T>::pack(map, dim, packed);
  const auto sizes = HeadSizes::of<T>(features.count(), input.value.shape[2], map.is_exponential());
  const Chunk token{.begin = 0, .end = 1};
  for (std::int64_t head = 0; head < input.query.shape[1]; ++head) {
    Workspace<T> space = Workspace<T>::of(cpu, 0, features, sizes);
    HeadState<T>& state = space.state;
    T* stored = op.state.as<T>() + head * op.state.stride[0];
    state.load(stored);
    space.map_queries(token, input.query, head);
    space.map_keys(token, input, head);
    take_in(state, space, head_view<T>(input.value, head).data);
    if (state.exponent) {
      space.find_offsets(state.exponent, 1);
      space.exponentiate_queries(state.exponent, 1);
    }
    T normalizer = 0;
    attend_chunk<T>(token, space, head_view<T>(op.out, head), {&normalizer, 1}, false);
    state.store(stored);
  }
}

}  // namespace

void execute(Cpu& cpu, const LinearAttentionSum& op) {
  for_float_type(op.input.key.dtype, [&]<class T>() {
    Parts<T> parts(cpu, op.input, op.input.key, op.input.value,
                   [&](const Piece& piece, Workspace<T>& space) {
                     sum_keys(piece, space, op.input, op.side);
                   });
    parts.sum(op.side, op.state);
  });
}

void execute(Cpu& cpu, const LinearAttention& op) {
  for_float_type(op.input.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, op.input, op.input.query, op.input.value,
                   [&](const Piece& piece, Workspace<T>& space) {
                     sum_keys(piece, space, op.input, ShardSide::back);
                   });
    const PieceBody<T> body = [&](const Piece& piece, Workspace<T>& space) {
      attend(piece, space, op);
    };
    op.input.causal ? parts.run(ShardSide::back, op.state_before, body)
                    : parts.run_documents({op.state_before, op.state_behind}, body);
  });
}

void execute(Cpu& cpu, const LinearAttentionStep& op) {
  for_float_type(op.input.query.dtype, [&]<class T>() { step<T>(cpu, op); });
}

}  // namespace longscan

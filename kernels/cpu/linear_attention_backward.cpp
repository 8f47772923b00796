// Linear attention on the CPU, backward: one walk forwards for d_query, one backwards for d_key and
// d_value.
//
// Neither keeps a state per chunk: d_query sums S up again, d_key and d_value sum up R = sum of
// phi(q) g~^T. Exponential maps fold 1 / normaliser into the exponents of the queries, so that
// phi(q_i) phi(k_j) is a share of token i's attention wherever i sees j.
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/linear_attention_parts.h"
#include "kernels/linear_attention.h"

namespace longscan {

namespace {

using namespace attention;

// What the chunk's outputs hand back: scaled = d_out / normaliser and weight = -(d_out . out) /
// normaliser; of exponential maps without the normaliser, whose logarithm becomes the offset.
template <class T>
void scale_gradient(const Chunk& chunk, Workspace<T>& space,
                    const LinearAttentionGradient& gradient, std::int64_t head) {
  const HeadView<T> d_out = head_view<T>(gradient.d_out, head);
  const HeadView<T> out = head_view<T>(gradient.out, head);
  const HeadView<T> normalizer = head_view<T>(gradient.normalizer, head);
  const std::int64_t stride = space.sizes.padded_value_dim;
  const std::int64_t value_dim = space.sizes.value_dim;
  for (std::int64_t i = 0; i < chunk.size(); ++i) {
    const std::int64_t token = chunk.begin + i;
    const T* up = d_out.row(token);
    const T* output = out.row(token);
    prefetch_row(d_out.row(token + chunk.ahead), value_dim);
    prefetch_row(out.row(token + chunk.ahead), value_dim);
    T* scaled = space.scaled + i * stride;
    space.offset[i] = *normalizer.row(token);
    const bool divides = !space.sizes.exponential;
    const T inverse = !divides ? T{1} : space.offset[i] == T{0} ? T{0} : T{1} / space.offset[i];
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t d = 0; d < value_dim; ++d) {
      dot += up[d] * output[d];
      scaled[d] = up[d] * inverse;
    }
    std::fill(scaled + value_dim, scaled + stride, T{0});
    space.weight[i] = -dot * inverse;
  }
}

// d_scores = tril(g~ v~^T): how the loss changes with phi(q_i) . phi(k_j).
template <class T>
void gradient_of_scores(std::int64_t count, Workspace<T>& space) {
  const std::int64_t stride = space.sizes.padded_value_dim;
  tile::transpose(space.value_columns, kChunk, space.values, stride, count, space.sizes.value_dim);
  tile::multiply<T>({space.d_scores, kChunk}, {space.scaled, stride, 1},
                    {space.value_columns, kChunk}, count, tile::padded<T>(count),
                    space.sizes.value_dim, false, tile::Shape::lower_result);
  keep_lower_triangle(space.d_scores, count, space.weight);
}

// R += phi(q) g~^T of a chunk whose queries phi_query holds. Exponential maps: phi_query keeps the
// exponents, and d_phi is overwritten.
template <class T>
void add_gradients(std::int64_t count, Workspace<T>& space) {
  HeadState<T>& state = space.state;
  const T* phi = space.phi_query;
  if (state.exponent) {
    const std::int64_t stride = space.sizes.padded_features;
    std::copy_n(state.exponent, stride, space.ratio);
    for (std::int64_t i = 0; i < count; ++i) {
      const T* row = space.phi_query + i * stride;
#pragma omp simd
      for (std::int64_t f = 0; f < stride; ++f) {
        const T exponent = row[f] - space.offset[i];
        space.ratio[f] = exponent > space.ratio[f] ? exponent : space.ratio[f];
      }
    }
    state.raise_exponents(space.ratio, space.ratio);
    for (std::int64_t i = 0; i < count; ++i) {
      const T* row = space.phi_query + i * stride;
      T* out = space.d_phi + i * stride;
#pragma omp simd
      for (std::int64_t f = 0; f < stride; ++f) {
        out[f] = exponents::ratio(row[f] - space.offset[i], state.exponent[f]);
      }
    }
    phi = space.d_phi;
  }
  state.accumulate(phi, space.scaled, count);
  state.accumulate_normalizer(phi, space.weight, count);
}

// space.state = R of the tokens on one side of a piece.
template <class T>
void sum_gradients(const Piece& piece, Workspace<T>& space, const LinearAttentionInput& input,
                   const LinearAttentionGradient& gradient, ShardSide side) {
  space.state.clear();
  ChunkWalk walk(input.document_starts, piece.begin, piece.end);
  const bool back = side == ShardSide::back;
  for (Chunk chunk; back ? walk.previous(chunk) : walk.next(chunk) && !chunk.starts_document;) {
    space.map_queries(chunk, input.query, piece.head);
    scale_gradient(chunk, space, gradient, piece.head);
    add_gradients(chunk.size(), space);
    if (back && chunk.starts_document) break;
  }
}

// S while d_query needs it: with its two sides exchanged, as the products here read it.
template <class T>
class TransposedState {
 public:
  explicit TransposedState(Workspace<T>& space) : space_(space), sizes_(space.sizes) {
    fill_zero();
    tile::transpose(space.state_columns, sizes_.padded_features, space.state.sum,
                    sizes_.padded_value_dim, sizes_.features, sizes_.value_dim);
  }

  void clear() {
    space_.state.clear();
    fill_zero();
  }
  /// Keys of exponential maps: the chunk is cut where they rise too far; the state and they come to
  /// the same exponents.
  void bring_to_exponents(ChunkWalk& walk, Chunk& chunk) {
    HeadState<T>& state = space_.state;
    space_.find_highest(state.exponent, chunk.size());
    while (chunk.size() > 1 && space_.rises_too_far(chunk.size())) {
      walk.shorten_end(chunk);
      space_.find_highest(state.exponent, chunk.size());
    }
    state.raise_normalizer(space_.highest, space_.ratio);
    for (std::int64_t d = 0; d < sizes_.value_dim; ++d) {
      T* row = space_.state_columns + d * sizes_.padded_features;
#pragma omp simd
      for (std::int64_t f = 0; f < sizes_.padded_features; ++f) row[f] *= space_.ratio[f];
    }
    space_.exponentiate_keys(state.exponent, chunk.size());
  }
  /// d_phi = S g~.
  void multiply(std::int64_t count) const {
    const std::int64_t features = sizes_.padded_features;
    for (std::int64_t i = 0; i < count; ++i) {
#pragma omp simd
      for (std::int64_t f = 0; f < sizes_.features; ++f) {
        space_.d_phi[i * features + f] = space_.weight[i] * space_.state.normalizer[f];
      }
    }
    tile::multiply<T>({space_.d_phi, features}, {space_.scaled, sizes_.padded_value_dim, 1},
                      {space_.state_columns, features}, count, features, sizes_.value_dim, true);
  }
  /// S += phi(k) v~^T.
  void accumulate(std::int64_t count) {
    const std::int64_t features = sizes_.padded_features;
    tile::multiply<T>({space_.state_columns, features}, {space_.values, 1, sizes_.padded_value_dim},
                      {space_.phi_key, features}, sizes_.value_dim, features, count, true);
    space_.state.accumulate_normalizer(space_.phi_key, nullptr, count);
  }

 private:
  void fill_zero() {
    std::fill_n(space_.state_columns, sizes_.value_dim * sizes_.padded_features, T{0});
  }

  Workspace<T>& space_;
  const HeadSizes& sizes_;
};

// d_phi(q) = S g~.
template <class T>
void differentiate_queries(const Piece& piece, Workspace<T>& space,
                           const LinearAttentionBackward& op) {
  const LinearAttentionInput& input = op.input;
  const std::int64_t features = space.sizes.padded_features;
  TransposedState<T> state(space);
  ChunkWalk walk(input.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    if (input.causal) {
      if (chunk.starts_document) state.clear();
      space.map_keys(chunk, input, piece.head);
      if (space.sizes.exponential) state.bring_to_exponents(walk, chunk);
      space.load_values(chunk, input.value, piece.head);
    }
    const std::int64_t count = chunk.size();
    scale_gradient(chunk, space, op.gradient, piece.head);
    space.map_queries(chunk, input.query, piece.head);
    if (space.sizes.exponential) space.exponentiate_queries(space.state.exponent, count);
    state.multiply(count);
    if (input.causal) {
      gradient_of_scores(count, space);
      tile::multiply<T>({space.d_phi, features}, {space.d_scores, kChunk, 1},
                        {space.phi_key, features}, count, features, count, true,
                        tile::Shape::lower_left);
    }
    space.features->differentiate(
        head_view<T>(op.d_query, piece.head), head_view<T>(input.query, piece.head), chunk.begin,
        count, chunk.ahead, space.d_phi, space.phi_query, space.projected, Role::query);
    if (input.causal) state.accumulate(count);
  }
}

// d_phi(k) = R v~, within the chunk (`scored`) and behind it.
template <class T>
void differentiate_keys(std::int64_t count, Workspace<T>& space, const HeadState<T>& state,
                        bool scored) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t features = sizes.padded_features;
  tile::transpose(space.state_columns, features, state.sum, sizes.padded_value_dim, sizes.features,
                  sizes.value_dim);
  for (std::int64_t i = 0; i < count; ++i) {
    T* row = space.d_phi + i * features;
#pragma omp simd
    for (std::int64_t f = 0; f < sizes.features; ++f) row[f] = state.normalizer[f];
  }
  const tile::Result<T> d_phi{space.d_phi, features};
  tile::multiply<T>(d_phi, {space.values, sizes.padded_value_dim, 1},
                    {space.state_columns, features}, count, features, sizes.value_dim, true);
  if (!scored) return;
  tile::multiply<T>(d_phi, {space.d_scores, 1, kChunk}, {space.phi_query, features}, count,
                    features, count, true, tile::Shape::upper_left);
}

// d_v = R^T phi(k), within the chunk (`scored`) and behind it.
template <class T>
void differentiate_values(const Chunk& chunk, Workspace<T>& space, const HeadState<T>& state,
                          HeadView<T> d_value, bool scored) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t count = chunk.size();
  const tile::Result<T> rows{space.rows, sizes.padded_value_dim};
  tile::multiply<T>(rows, {space.phi_key, sizes.padded_features, 1},
                    {state.sum, sizes.padded_value_dim}, count, sizes.padded_value_dim,
                    sizes.features, false);
  if (scored) {
    tile::multiply<T>(rows, {space.scores, 1, kChunk}, {space.scaled, sizes.padded_value_dim},
                      count, sizes.padded_value_dim, count, true, tile::Shape::upper_left);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const T* from = rows.data + i * rows.stride;
    T* to = d_value.row(chunk.begin + i);
    prefetch_row_to_write(d_value.row(chunk.begin + i + chunk.ahead), sizes.value_dim);
#pragma omp simd
    for (std::int64_t d = 0; d < sizes.value_dim; ++d) to[d] = from[d];
  }
}

// Whether some query would, relative to the chunk's keys, have an exponent too far above its
// normaliser: its attention goes to keys before the chunk's, and the others must not spoil it.
template <class T>
bool exceeds_normalizers(std::int64_t count, const Workspace<T>& space) {
  T rise = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const T* row = space.phi_query + i * space.sizes.padded_features;
    const T below = space.offset[i];
#pragma omp simd reduction(max : rise)
    for (std::int64_t f = 0; f < space.sizes.features; ++f) {
      rise = vector_math::larger(row[f] + space.highest[f] - below, rise);
    }
  }
  return rise > kHighestRise<T>;
}

// Features of the chunk's queries and keys, its gradients, and in `near` the R of what is behind
// it, brought to the exponents of the chunk's keys; R itself then takes the chunk in. The chunk is
// cut where exponents rise too far.
template <class T>
void take_exponential_chunk(ChunkWalk& walk, Chunk& chunk, Workspace<T>& space,
                            const LinearAttentionBackward& op, std::int64_t head) {
  const std::int64_t features = space.sizes.padded_features;
  for (;;) {
    scale_gradient(chunk, space, op.gradient, head);
    space.map_queries(chunk, op.input.query, head);
    space.map_keys(chunk, op.input, head);
    std::fill_n(space.highest, features, exponents::kNone<T>);
    space.find_highest(space.highest, chunk.size());
    if (chunk.size() == 1 || !exceeds_normalizers(chunk.size(), space)) break;
    walk.shorten_begin(chunk);
  }
  space.near.copy_from(space.state);
  // The keys precede R's queries, so the exponents of both together are none above 0.
  for (std::int64_t f = 0; f < features; ++f) {
    const T ratio = vector_math::exp(space.near.exponent[f] + space.highest[f]);
    space.near.normalizer[f] *= ratio;
    if (f >= space.sizes.features) continue;
    T* row = space.near.sum + f * space.sizes.padded_value_dim;
#pragma omp simd
    for (std::int64_t d = 0; d < space.sizes.padded_value_dim; ++d) row[d] *= ratio;
  }
  chunk.starts_document ? space.state.clear() : add_gradients(chunk.size(), space);
  space.exponentiate_queries(space.highest, chunk.size());
  space.exponentiate_keys(space.highest, chunk.size());
}

template <class T>
void differentiate_causal(const Piece& piece, Workspace<T>& space,
                          const LinearAttentionBackward& op) {
  const LinearAttentionInput& input = op.input;
  const bool exponential = space.sizes.exponential;
  const HeadState<T>& behind = exponential ? space.near : space.state;
  ChunkWalk walk(input.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.previous(chunk);) {
    if (exponential) {
      take_exponential_chunk(walk, chunk, space, op, piece.head);
    } else {
      scale_gradient(chunk, space, op.gradient, piece.head);
      space.map_queries(chunk, input.query, piece.head);
      space.map_keys(chunk, input, piece.head);
    }
    const std::int64_t count = chunk.size();
    space.load_values(chunk, input.value, piece.head);
    space.score(count);
    gradient_of_scores(count, space);
    differentiate_keys(count, space, behind, true);
    space.features->differentiate(
        head_view<T>(op.d_key, piece.head), head_view<T>(input.key, piece.head), chunk.begin, count,
        chunk.ahead, space.d_phi, space.phi_key, space.projected, Role::key);
    differentiate_values(chunk, space, behind, head_view<T>(op.d_value, piece.head), true);
    if (exponential) continue;
    chunk.starts_document ? space.state.clear() : add_gradients(count, space);
  }
}

template <class T>
void differentiate_bidirectional(const Piece& piece, Workspace<T>& space,
                                 const LinearAttentionBackward& op) {
  const LinearAttentionInput& input = op.input;
  HeadState<T>& state = space.state;
  if (state.exponent) {
    // Keys come to the exponents of R: together they are none above 0.
    for (std::int64_t f = 0; f < space.sizes.padded_features; ++f) {
      space.highest[f] = -state.exponent[f];
    }
  }
  ChunkWalk walk(input.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    const std::int64_t count = chunk.size();
    space.map_keys(chunk, input, piece.head);
    if (state.exponent) space.exponentiate_keys(space.highest, count);
    space.load_values(chunk, input.value, piece.head);
    differentiate_keys(count, space, state, false);
    space.features->differentiate(
        head_view<T>(op.d_key, piece.head), head_view<T>(input.key, piece.head), chunk.begin, count,
        chunk.ahead, space.d_phi, space.phi_key, space.projected, Role::key);
    differentiate_values(chunk, space, state, head_view<T>(op.d_value, piece.head), false);
  }
}

template <class T>
void backward_query(Cpu& cpu, const LinearAttentionBackward& op) {
  Parts<T> parts(cpu, op.input, op.input.query, op.input.value,
                 [&](const Piece& piece, Workspace<T>& space) {
                   sum_keys(piece, space, op.input, ShardSide::back);
                 });
  const PieceBody<T> body = [&](const Piece& piece, Workspace<T>& space) {
    differentiate_queries(piece, space, op);
  };
  op.input.causal ? parts.run(ShardSide::back, op.state_before, body)
                  : parts.run_documents({op.state_before, op.state_behind}, body);
}

template <class T>
void backward_key_value(Cpu& cpu, const LinearAttentionBackward& op) {
  const ShardSide side = op.input.causal ? ShardSide::front : ShardSide::back;
  Parts<T> parts(cpu, op.input, op.input.query, op.input.value,
                 [&](const Piece& piece, Workspace<T>& space) {
                   sum_gradients(piece, space, op.input, op.gradient, side);
                 });
  if (op.input.causal) {
    parts.run(side, op.gradients_behind, [&](const Piece& piece, Workspace<T>& space) {
      differentiate_causal(piece, space, op);
    });
  } else {
    parts.run_documents({op.gradients_before, op.gradients_behind},
                        [&](const Piece& piece, Workspace<T>& space) {
                          differentiate_bidirectional(piece, space, op);
                        });
  }
}

}  // namespace

void execute(Cpu& cpu, const LinearAttentionGradientSum& op) {
  for_float_type(op.input.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, op.input, op.input.query, op.gradient.d_out,
                   [&](const Piece& piece, Workspace<T>& space) {
                     sum_gradients(piece, space, op.input, op.gradient, op.side);
                   });
    parts.sum(op.side, op.state);
  });
}

void execute(Cpu& cpu, const LinearAttentionBackward& op) {
  for_float_type(op.input.query.dtype, [&]<class T>() {
    backward_query<T>(cpu, op);
    backward_key_value<T>(cpu, op);
  });
}

}  // namespace longscan

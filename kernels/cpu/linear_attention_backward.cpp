// Causal linear attention on the CPU, backward: one walk forwards for d_query, one backwards for
// d_key and d_value.
//
// Neither keeps a state per chunk: d_query sums S up again, d_key and d_value sum up R = sum of
// phi(q) g~^T.
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/linear_attention_parts.h"
#include "kernels/linear_attention.h"

namespace longscan {

namespace {

using namespace attention;

// What the chunk's outputs hand back: scaled = d_out / normaliser and weight = -(d_out . out) /
// normaliser.
template <class T, class Operation>
void scale_gradient(const Chunk& chunk, Workspace<T>& space, const Operation& op,
                    std::int64_t head) {
  const HeadView<T> d_out = head_view<T>(op.d_out, head);
  const HeadView<T> out = head_view<T>(op.out, head);
  const HeadView<T> normalizer = head_view<T>(op.normalizer, head);
  const std::int64_t stride = space.sizes.padded_value_dim;
  const std::int64_t value_dim = space.sizes.value_dim;
  for (std::int64_t i = 0; i < chunk.size(); ++i) {
    const std::int64_t token = chunk.begin + i;
    const T* gradient = d_out.row(token);
    const T* output = out.row(token);
    prefetch_row(d_out.row(token + chunk.ahead), value_dim);
    prefetch_row(out.row(token + chunk.ahead), value_dim);
    T* scaled = space.scaled + i * stride;
    const T inverse = T{1} / *normalizer.row(token);
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t d = 0; d < value_dim; ++d) {
      dot += gradient[d] * output[d];
      scaled[d] = gradient[d] * inverse;
    }
    std::fill(scaled + value_dim, scaled + stride, T{0});
    space.weight[i] = -dot * inverse;
  }
}

// d_scores = tril(g~ v~^T): how the loss changes with phi(q_i) . phi(k_j).
template <class T>
void gradient_of_scores(const Chunk& chunk, Workspace<T>& space) {
  const std::int64_t count = chunk.size();
  const std::int64_t stride = space.sizes.padded_value_dim;
  tile::transpose(space.value_columns, kChunk, space.values, stride, count, space.sizes.value_dim);
  tile::multiply<T>({space.d_scores, kChunk}, {space.scaled, stride, 1},
                    {space.value_columns, kChunk}, count, tile::padded<T>(count),
                    space.sizes.value_dim, false, tile::Shape::lower_result);
  keep_lower_triangle(space.d_scores, count, space.weight);
}

// space.state = R of the piece, up to its first document start.
template <class T, class Operation>
void sum_gradients(const Piece& piece, Workspace<T>& space, const Operation& op) {
  space.state.clear();
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk) && !chunk.starts_document;) {
    space.map_queries(chunk, op.query, piece.head, op.feature_map);
    scale_gradient(chunk, space, op, piece.head);
    space.state.accumulate(space.phi_query, space.scaled, chunk.size());
    space.state.accumulate_normalizer(space.phi_query, space.weight, chunk.size());
  }
}

// d_phi(q) = S g~. The state is kept with its two sides exchanged, as the products here read it.
template <class T>
void differentiate_queries(const Piece& piece, Workspace<T>& space,
                           const LinearAttentionBackwardQuery& op) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t features = sizes.padded_features;
  HeadState<T>& state = space.state;
  std::fill_n(space.state_columns, sizes.value_dim * features, T{0});
  tile::transpose(space.state_columns, features, state.sum, sizes.padded_value_dim, sizes.features,
                  sizes.value_dim);
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    const std::int64_t count = chunk.size();
    if (chunk.starts_document) {
      state.clear();
      std::fill_n(space.state_columns, sizes.value_dim * features, T{0});
    }
    scale_gradient(chunk, space, op, piece.head);
    space.map_queries(chunk, op.query, piece.head, op.feature_map);
    space.map_keys(chunk, op.key, piece.head, op.feature_map);
    space.load_values(chunk, op.value, piece.head);
    gradient_of_scores(chunk, space);
    for (std::int64_t i = 0; i < count; ++i) {
#pragma omp simd
      for (std::int64_t f = 0; f < sizes.features; ++f) {
        space.d_phi[i * features + f] = space.weight[i] * state.normalizer[f];
      }
    }
    const tile::Result<T> d_phi{space.d_phi, features};
    tile::multiply<T>(d_phi, {space.scaled, sizes.padded_value_dim, 1},
                      {space.state_columns, features}, count, features, sizes.value_dim, true);
    tile::multiply<T>(d_phi, {space.d_scores, kChunk, 1}, {space.phi_key, features}, count,
                      features, count, true, tile::Shape::lower_left);
    unmap_features(op.feature_map, head_view<T>(op.d_query, piece.head), chunk.begin, space.d_phi,
                   space.phi_query, features, count, sizes.features, chunk.ahead);
    tile::multiply<T>({space.state_columns, features}, {space.values, 1, sizes.padded_value_dim},
                      {space.phi_key, features}, sizes.value_dim, features, count, true);
    state.accumulate_normalizer(space.phi_key, nullptr, count);
  }
}

// d_phi(k) = R v~, within the chunk and behind it.
template <class T>
void differentiate_keys(const Chunk& chunk, Workspace<T>& space) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t features = sizes.padded_features;
  const std::int64_t count = chunk.size();
  tile::transpose(space.state_columns, features, space.state.sum, sizes.padded_value_dim,
                  sizes.features, sizes.value_dim);
  for (std::int64_t i = 0; i < count; ++i) {
    T* row = space.d_phi + i * features;
#pragma omp simd
    for (std::int64_t f = 0; f < sizes.features; ++f) row[f] = space.state.normalizer[f];
  }
  const tile::Result<T> d_phi{space.d_phi, features};
  tile::multiply<T>(d_phi, {space.values, sizes.padded_value_dim, 1},
                    {space.state_columns, features}, count, features, sizes.value_dim, true);
  tile::multiply<T>(d_phi, {space.d_scores, 1, kChunk}, {space.phi_query, features}, count,
                    features, count, true, tile::Shape::upper_left);
}

// d_v = R^T phi(k), within the chunk and behind it.
template <class T>
void differentiate_values(const Chunk& chunk, Workspace<T>& space, HeadView<T> d_value) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t count = chunk.size();
  const tile::Result<T> rows{space.rows, sizes.padded_value_dim};
  tile::multiply<T>(rows, {space.phi_key, sizes.padded_features, 1},
                    {space.state.sum, sizes.padded_value_dim}, count, sizes.padded_value_dim,
                    sizes.features, false);
  tile::multiply<T>(rows, {space.scores, 1, kChunk}, {space.scaled, sizes.padded_value_dim}, count,
                    sizes.padded_value_dim, count, true, tile::Shape::upper_left);
  for (std::int64_t i = 0; i < count; ++i) {
    const T* from = rows.data + i * rows.stride;
    T* to = d_value.row(chunk.begin + i);
    prefetch_row_to_write(d_value.row(chunk.begin + i + chunk.ahead), sizes.value_dim);
#pragma omp simd
    for (std::int64_t d = 0; d < sizes.value_dim; ++d) to[d] = from[d];
  }
}

template <class T>
void differentiate_keys_and_values(const Piece& piece, Workspace<T>& space,
                                   const LinearAttentionBackwardKeyValue& op) {
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.previous(chunk);) {
    scale_gradient(chunk, space, op, piece.head);
    space.map_queries(chunk, op.query, piece.head, op.feature_map);
    space.map_keys(chunk, op.key, piece.head, op.feature_map);
    space.load_values(chunk, op.value, piece.head);
    space.score(chunk);
    gradient_of_scores(chunk, space);
    differentiate_keys(chunk, space);
    unmap_features(op.feature_map, head_view<T>(op.d_key, piece.head), chunk.begin, space.d_phi,
                   space.phi_key, space.sizes.padded_features, chunk.size(), space.sizes.features,
                   chunk.ahead);
    differentiate_values(chunk, space, head_view<T>(op.d_value, piece.head));
    if (chunk.starts_document) {
      space.state.clear();
    } else {
      space.state.accumulate(space.phi_query, space.scaled, chunk.size());
      space.state.accumulate_normalizer(space.phi_query, space.weight, chunk.size());
    }
  }
}

}  // namespace

void execute(Cpu& cpu, const LinearAttentionGradientSum& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.d_out), ScanDirection::backward, op.document_starts);
    parts.sum([&](const Piece& piece, Workspace<T>& space) { sum_gradients(piece, space, op); });
    parts.scan({}, op.state);
  });
}

void execute(Cpu& cpu, const LinearAttentionBackwardQuery& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.value), ScanDirection::forward, op.document_starts);
    parts.run(
        op.state_before,
        [&](const Piece& piece, Workspace<T>& space) { sum_keys(piece, space, op); },
        [&](const Piece& piece, Workspace<T>& space) { differentiate_queries(piece, space, op); });
  });
}

void execute(Cpu& cpu, const LinearAttentionBackwardKeyValue& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.value), ScanDirection::backward, op.document_starts);
    parts.run(
        op.state_after,
        [&](const Piece& piece, Workspace<T>& space) { sum_gradients(piece, space, op); },
        [&](const Piece& piece, Workspace<T>& space) {
          differentiate_keys_and_values(piece, space, op);
        });
  });
}

}  // namespace longscan

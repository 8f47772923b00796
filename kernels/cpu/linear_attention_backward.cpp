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

// space.state = R of the piece, up to its first document start.
template <class T, class Operation>
void sum_gradients(const Piece& piece, Workspace<T>& space, const Operation& op) {
  const HeadView<T> queries = head_view<T>(op.query, piece.head);
  space.state.clear();
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk) && !chunk.starts_document;) {
    map_features(op.feature_map, space.phi_query, queries, chunk.begin, chunk.size(),
                 space.state.features);
    space.gradient.compute(chunk, head_view<T>(op.d_out, piece.head),
                           head_view<T>(op.out, piece.head),
                           head_view<T>(op.normalizer, piece.head), space.state.value_dim);
    space.state.accumulate(space.phi_query, space.gradient.scaled, space.state.value_dim,
                           space.gradient.weight, chunk.size());
  }
}

// d_scores = tril(g~ v~^T): how the loss changes with phi(q_i) . phi(k_j).
template <class T>
void gradient_of_scores(const Chunk& chunk, Workspace<T>& space, HeadView<T> values) {
  const std::int64_t count = chunk.size();
  const std::int64_t value_dim = space.state.value_dim;
  for (std::int64_t i = 0; i < count; ++i) {
    std::fill_n(space.d_scores + i * count, count, space.gradient.weight[i]);
  }
  blas::gemm(false, true, count, count, value_dim, T{1}, space.gradient.scaled, value_dim,
             values.row(chunk.begin), values.stride, T{1}, space.d_scores, count);
  keep_lower_triangle(space.d_scores, count);
}

template <class T>
void differentiate_queries(const Piece& piece, Workspace<T>& space,
                           const LinearAttentionBackwardQuery& op) {
  const HeadView<T> keys = head_view<T>(op.key, piece.head);
  const HeadView<T> values = head_view<T>(op.value, piece.head);
  HeadState<T>& state = space.state;
  const std::int64_t features = state.features;
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    const std::int64_t count = chunk.size();
    if (chunk.starts_document) state.clear();
    space.gradient.compute(chunk, head_view<T>(op.d_out, piece.head),
                           head_view<T>(op.out, piece.head),
                           head_view<T>(op.normalizer, piece.head), state.value_dim);
    map_features(op.feature_map, space.phi_query, head_view<T>(op.query, piece.head), chunk.begin,
                 count, features);
    map_features(op.feature_map, space.phi_key, keys, chunk.begin, count, features);
    gradient_of_scores(chunk, space, values);
    for (std::int64_t i = 0; i < count; ++i) {
#pragma omp simd
      for (std::int64_t f = 0; f < features; ++f) {
        space.d_phi[i * features + f] = space.gradient.weight[i] * state.normalizer[f];
      }
    }
    blas::gemm(false, true, count, features, state.value_dim, T{1}, space.gradient.scaled,
               state.value_dim, state.sum, state.value_dim, T{1}, space.d_phi, features);
    blas::gemm(false, false, count, features, count, T{1}, space.d_scores, count, space.phi_key,
               features, T{1}, space.d_phi, features);
    unmap_features(op.feature_map, head_view<T>(op.d_query, piece.head), chunk.begin, space.d_phi,
                   space.phi_query, count, features);
    state.accumulate(space.phi_key, values.row(chunk.begin), values.stride, nullptr, count);
  }
}

template <class T>
void differentiate_keys_and_values(const Piece& piece, Workspace<T>& space,
                                   const LinearAttentionBackwardKeyValue& op) {
  const HeadView<T> values = head_view<T>(op.value, piece.head);
  const HeadView<T> d_values = head_view<T>(op.d_value, piece.head);
  HeadState<T>& state = space.state;
  const std::int64_t features = state.features;
  const std::int64_t value_dim = state.value_dim;
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.previous(chunk);) {
    const std::int64_t count = chunk.size();
    space.gradient.compute(chunk, head_view<T>(op.d_out, piece.head),
                           head_view<T>(op.out, piece.head),
                           head_view<T>(op.normalizer, piece.head), value_dim);
    map_features(op.feature_map, space.phi_query, head_view<T>(op.query, piece.head), chunk.begin,
                 count, features);
    map_features(op.feature_map, space.phi_key, head_view<T>(op.key, piece.head), chunk.begin,
                 count, features);
    blas::gemm(false, true, count, count, features, T{1}, space.phi_query, features, space.phi_key,
               features, T{0}, space.scores, count);
    keep_lower_triangle(space.scores, count);
    gradient_of_scores(chunk, space, values);
    // d_phi(k) = R v~ within and behind the chunk.
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(state.normalizer, features, space.d_phi + i * features);
    }
    blas::gemm(false, true, count, features, value_dim, T{1}, values.row(chunk.begin),
               values.stride, state.sum, value_dim, T{1}, space.d_phi, features);
    blas::gemm(true, false, count, features, count, T{1}, space.d_scores, count, space.phi_query,
               features, T{1}, space.d_phi, features);
    unmap_features(op.feature_map, head_view<T>(op.d_key, piece.head), chunk.begin, space.d_phi,
                   space.phi_key, count, features);
    // d_v = R^T phi(k) within and behind the chunk.
    blas::gemm(false, false, count, value_dim, features, T{1}, space.phi_key, features, state.sum,
               value_dim, T{0}, d_values.row(chunk.begin), d_values.stride);
    blas::gemm(true, false, count, value_dim, count, T{1}, space.scores, count,
               space.gradient.scaled, value_dim, T{1}, d_values.row(chunk.begin), d_values.stride);
    if (chunk.starts_document) {
      state.clear();
    } else {
      state.accumulate(space.phi_query, space.gradient.scaled, value_dim, space.gradient.weight,
                       count);
    }
  }
}

}  // namespace

void execute(Cpu& cpu, const LinearAttentionGradientSum& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.d_out), Direction::backward, op.document_starts);
    parts.sum([&](const Piece& piece, Workspace<T>& space) { sum_gradients(piece, space, op); });
    parts.scan({}, op.state);
  });
}

void execute(Cpu& cpu, const LinearAttentionBackwardQuery& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.value), Direction::forward, op.document_starts);
    parts.run(
        op.state_before,
        [&](const Piece& piece, Workspace<T>& space) { sum_keys(piece, space, op); },
        [&](const Piece& piece, Workspace<T>& space) { differentiate_queries(piece, space, op); });
  });
}

void execute(Cpu& cpu, const LinearAttentionBackwardKeyValue& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.value), Direction::backward, op.document_starts);
    parts.run(
        op.state_after,
        [&](const Piece& piece, Workspace<T>& space) { sum_gradients(piece, space, op); },
        [&](const Piece& piece, Workspace<T>& space) {
          differentiate_keys_and_values(piece, space, op);
        });
  });
}

}  // namespace longscan

// Causal linear attention on the CPU, forward: chunks of tokens through matrix products.
//
// In chunks, with S the state before the chunk:  O = phi_q S + tril(phi_q phi_k^T) V, then S +=
// phi_k^T V.
#include "kernels/linear_attention.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/linear_attention_parts.h"

namespace longscan {

namespace {

using namespace attention;

template <class T>
void attend_chunk(const Chunk& chunk, Workspace<T>& space, HeadView<T> out, HeadView<T> normalizer,
                  HeadView<T> values) {
  const HeadState<T>& state = space.state;
  const std::int64_t count = chunk.size();
  const std::int64_t features = state.features;
  blas::gemm(false, true, count, count, features, T{1}, space.phi_query, features, space.phi_key,
             features, T{0}, space.scores, count);
  keep_lower_triangle(space.scores, count);
  blas::gemm(false, false, count, state.value_dim, features, T{1}, space.phi_query, features,
             state.sum, state.value_dim, T{0}, out.row(chunk.begin), out.stride);
  blas::gemm(false, false, count, state.value_dim, count, T{1}, space.scores, count,
             values.row(chunk.begin), values.stride, T{1}, out.row(chunk.begin), out.stride);
  for (std::int64_t i = 0; i < count; ++i) {
    const T* query = space.phi_query + i * features;
    const T* scores = space.scores + i * count;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t f = 0; f < features; ++f) total += query[f] * state.normalizer[f];
#pragma omp simd reduction(+ : total)
    for (std::int64_t j = 0; j < count; ++j) total += scores[j];
    *normalizer.row(chunk.begin + i) = total;
    T* row = out.row(chunk.begin + i);
    const T inverse = T{1} / total;
#pragma omp simd
    for (std::int64_t d = 0; d < state.value_dim; ++d) row[d] *= inverse;
  }
}

template <class T>
void attend(const Piece& piece, Workspace<T>& space, const LinearAttention& op) {
  const HeadView<T> queries = head_view<T>(op.query, piece.head);
  const HeadView<T> keys = head_view<T>(op.key, piece.head);
  const HeadView<T> values = head_view<T>(op.value, piece.head);
  const std::int64_t features = space.state.features;
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    if (chunk.starts_document) space.state.clear();
    map_features(op.feature_map, space.phi_query, queries, chunk.begin, chunk.size(), features);
    map_features(op.feature_map, space.phi_key, keys, chunk.begin, chunk.size(), features);
    attend_chunk(chunk, space, head_view<T>(op.out, piece.head),
                 head_view<T>(op.normalizer, piece.head), values);
    space.state.accumulate(space.phi_key, values.row(chunk.begin), values.stride, nullptr,
                           chunk.size());
  }
}

template <class T>
void step(Cpu& cpu, const LinearAttentionStep& op) {
  const Sizes sizes = sizes_of(op.query, op.value);
  for (std::int64_t head = 0; head < sizes.heads; ++head) {
    Workspace<T> space = Workspace<T>::of(cpu, 0, sizes);
    map_features(op.feature_map, space.phi_query, head_view<T>(op.query, head), 0, 1,
                 sizes.features);
    map_features(op.feature_map, space.phi_key, head_view<T>(op.key, head), 0, 1, sizes.features);
    const T* value = head_view<T>(op.value, head).data;
    T* out = head_view<T>(op.out, head).data;
    T* state = op.state.as<T>() + head * op.state.stride[0];
    T normalizer = 0;
    std::fill_n(out, sizes.value_dim, T{0});
    for (std::int64_t f = 0; f < sizes.features; ++f) {
      T* row = state + f * (sizes.value_dim + 1);
      for (std::int64_t d = 0; d < sizes.value_dim; ++d) {
        row[d] += space.phi_key[f] * value[d];
        out[d] += space.phi_query[f] * row[d];
      }
      row[sizes.value_dim] += space.phi_key[f];
      normalizer += space.phi_query[f] * row[sizes.value_dim];
    }
    for (std::int64_t d = 0; d < sizes.value_dim; ++d) out[d] /= normalizer;
  }
}

}  // namespace

void execute(Cpu& cpu, const LinearAttentionSum& op) {
  for_float_type(op.key.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.key, op.value), Direction::forward, op.document_starts);
    parts.sum([&](const Piece& piece, Workspace<T>& space) { sum_keys(piece, space, op); });
    parts.scan({}, op.state);
  });
}

void execute(Cpu& cpu, const LinearAttention& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.value), Direction::forward, op.document_starts);
    parts.run(
        op.state_before,
        [&](const Piece& piece, Workspace<T>& space) { sum_keys(piece, space, op); },
        [&](const Piece& piece, Workspace<T>& space) { attend(piece, space, op); });
  });
}

void execute(Cpu& cpu, const LinearAttentionStep& op) {
  for_float_type(op.query.dtype, [&]<class T>() { step<T>(cpu, op); });
}

}  // namespace longscan

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

// out = numerator / normaliser of one chunk.
template <class T>
void attend_chunk(const Chunk& chunk, Workspace<T>& space, HeadView<T> out,
                  HeadView<T> normalizer) {
  const HeadSizes& sizes = space.sizes;
  const std::int64_t count = chunk.size();
  space.score(chunk);
  const tile::Result<T> rows{space.rows, sizes.padded_value_dim};
  tile::multiply<T>(rows, {space.phi_query, sizes.padded_features, 1},
                    {space.state.sum, sizes.padded_value_dim}, count, sizes.padded_value_dim,
                    sizes.features, false);
  tile::multiply<T>(rows, {space.scores, kChunk, 1}, {space.values, sizes.padded_value_dim}, count,
                    sizes.padded_value_dim, count, true, tile::Shape::lower_left);
  for (std::int64_t i = 0; i < count; ++i) {
    const T* query = space.phi_query + i * sizes.padded_features;
    const T* scores = space.scores + i * kChunk;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t f = 0; f < sizes.features; ++f) total += query[f] * space.state.normalizer[f];
#pragma omp simd reduction(+ : total)
    for (std::int64_t j = 0; j < count; ++j) total += scores[j];
    *normalizer.row(chunk.begin + i) = total;
    const T* numerator = space.rows + i * sizes.padded_value_dim;
    T* row = out.row(chunk.begin + i);
    prefetch_row_to_write(out.row(chunk.begin + i + chunk.ahead), sizes.value_dim);
    const T inverse = T{1} / total;
#pragma omp simd
    for (std::int64_t d = 0; d < sizes.value_dim; ++d) row[d] = numerator[d] * inverse;
  }
}

template <class T>
void attend(const Piece& piece, Workspace<T>& space, const LinearAttention& op) {
  ChunkWalk walk(op.document_starts, piece.begin, piece.end);
  for (Chunk chunk; walk.next(chunk);) {
    if (chunk.starts_document) space.state.clear();
    space.map_queries(chunk, op.query, piece.head, op.feature_map);
    space.map_keys(chunk, op.key, piece.head, op.feature_map);
    space.load_values(chunk, op.value, piece.head);
    attend_chunk(chunk, space, head_view<T>(op.out, piece.head),
                 head_view<T>(op.normalizer, piece.head));
    space.state.accumulate(space.phi_key, space.values, chunk.size());
    space.state.accumulate_normalizer(space.phi_key, nullptr, chunk.size());
  }
}

template <class T>
void step(Cpu& cpu, const LinearAttentionStep& op) {
  const Sizes sizes = sizes_of(op.query, op.value);
  for (std::int64_t head = 0; head < sizes.heads; ++head) {
    Workspace<T> space = Workspace<T>::of(cpu, 0, sizes);
    space.map_queries({0, 1, false, 0}, op.query, head, op.feature_map);
    space.map_keys({0, 1, false, 0}, op.key, head, op.feature_map);
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
    Parts<T> parts(cpu, sizes_of(op.key, op.value), ScanDirection::forward, op.document_starts);
    parts.sum([&](const Piece& piece, Workspace<T>& space) { sum_keys(piece, space, op); });
    parts.scan({}, op.state);
  });
}

void execute(Cpu& cpu, const LinearAttention& op) {
  for_float_type(op.query.dtype, [&]<class T>() {
    Parts<T> parts(cpu, sizes_of(op.query, op.value), ScanDirection::forward, op.document_starts);
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

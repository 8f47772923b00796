// What the kernels of exact softmax attention share: who sees whom, and the places of a tile's
// tokens in shared memory.
#pragma once

#include <cstdint>

#include "kernels/cuda/online_softmax.h"
#include "kernels/softmax_attention.h"

namespace longscan::softmax_on_gpu {

using namespace attention;

/// Tokens [begin, end) of a block.
struct Span {
  std::int64_t begin;
  std::int64_t end;
};

/// A query sees the keys of its document whose place is not beyond its own.
struct Place {
  std::int64_t document;
  std::int64_t place;
};
/// Documents of no token, and no query sees such a key.
constexpr std::int64_t kNoQuery = INT64_MIN;
constexpr std::int64_t kNoKey = INT64_MIN + 1;

__device__ inline bool sees(const Place& query, const Place& key) {
  return query.document == key.document && key.place <= query.place;
}

/// Where the first of `count` ascending numbers stands that is not below `bound`.
__device__ inline std::int64_t lower_bound(const std::int64_t* numbers, std::int64_t count,
                                           std::int64_t bound) {
  std::int64_t first = 0;
  while (count > 0) {
    const std::int64_t half = count / 2;
    const bool below = numbers[first + half] < bound;
    first = below ? first + half + 1 : first;
    count = below ? count - half - 1 : half;
  }
  return first;
}

/// The tokens of a block that are of the documents of `span`, of another block: documents ascend,
/// so they are one span.
__device__ inline Span same_documents(const LineBlock& block, const LineBlock& other,
                                      const Span& span) {
  const auto* documents = data_of<std::int64_t>(block.document);
  const auto* of_span = data_of<std::int64_t>(other.document);
  const std::int64_t count = block.document.shape[0];
  return {lower_bound(documents, count, of_span[span.begin]),
          lower_bound(documents, count, of_span[span.end - 1] + 1)};
}

/// The keys that any query of `span` may see, and the queries that may see any key of one.
__device__ inline Span keys_of(const LineBlock& queries, const LineBlock& keys, const Span& span,
                               bool causal) {
  Span seen = same_documents(keys, queries, span);
  const std::int64_t after = queries.first_token + span.end - keys.first_token;
  if (causal) seen.end = min(seen.end, after);
  return seen;
}
__device__ inline Span queries_of(const LineBlock& queries, const LineBlock& keys, const Span& span,
                                  bool causal) {
  Span seeing = same_documents(queries, keys, span);
  const std::int64_t first = keys.first_token + span.begin - queries.first_token;
  if (causal) seeing.begin = max(seeing.begin, first);
  return seeing;
}

/// The places of `kCount` queries from `first` on, to shared memory.
template <int kCount>
__device__ void load_queries(Place* places, const LineBlock& block, std::int64_t first,
                             std::int64_t end, bool causal) {
  for (int i = static_cast<int>(threadIdx.x); i < kCount; i += static_cast<int>(blockDim.x)) {
    const std::int64_t token = first + i;
    places[i] = token < end ? Place{data_of<std::int64_t>(block.document)[token],
                                    causal ? block.first_token + token : INT64_MAX}
                            : Place{kNoQuery, 0};
  }
}

__device__ inline bool is_kept(const Tensor& mask, std::int64_t key) {
  return mask.data == nullptr || data_of<std::uint8_t>(mask)[key] != 0;
}
/// The same of keys; those that the mask leaves out are none.
template <int kCount>
__device__ void load_keys(Place* places, const SoftmaxKeys& keys, std::int64_t first,
                          std::int64_t end) {
  for (int i = static_cast<int>(threadIdx.x); i < kCount; i += static_cast<int>(blockDim.x)) {
    const std::int64_t token = first + i;
    places[i] = token < end && is_kept(keys.key_mask, token)
                    ? Place{data_of<std::int64_t>(keys.block.document)[token],
                            keys.block.first_token + token}
                    : Place{kNoKey, 0};
  }
}

/// Whether every query of a tile sees every key of another, so that nobody need ask one by one.
template <int kQueries, int kKeys>
__device__ bool all_see_all(const Place* queries, const Place* keys, const Tensor& mask) {
  return mask.data == nullptr && keys[0].document == keys[kKeys - 1].document &&
         sees(queries[0], keys[kKeys - 1]) && sees(queries[kQueries - 1], keys[kKeys - 1]);
}

/// A block of threads takes a tile of one head. Those that are launched first have the most to do.
struct Piece {
  std::int64_t head;
  std::int64_t first;

  template <int kRows>
  static __device__ Piece of_block(std::int64_t heads, std::int64_t tokens, bool longest_last) {
    const std::int64_t tiles = (tokens + kRows - 1) / kRows;
    const std::int64_t tile = blockIdx.x / heads;
    return {blockIdx.x % heads, (longest_last ? tiles - 1 - tile : tile) * kRows};
  }
};
inline std::int64_t count_pieces(std::int64_t heads, std::int64_t tokens, int rows) {
  return heads * ((tokens + rows - 1) / rows);
}

/// Whether keys and values may be read 16 bytes at a time, and all else with them.
inline bool rows_in_vectors(const SoftmaxQueries& queries, const SoftmaxKeys& keys) {
  return longscan::rows_in_vectors({queries.query, keys.key, keys.value});
}

}  // namespace longscan::softmax_on_gpu

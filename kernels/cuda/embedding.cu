// Entries of a table and their gradients, on the GPU.
#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/faults.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/sort.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

template <class T, class Index, int kCount>
__global__ void look_up(Faults* faults, const __grid_constant__ Embedding operation) {
  const std::int64_t width = operation.out.shape[1];
  const std::int64_t packs = width / kCount;
  const std::int64_t token = thread_number() / packs;
  if (token >= operation.out.shape[0]) return;
  const std::int64_t column = thread_number() % packs * kCount;
  const std::int64_t entry = data_of<const Index>(operation.index)[token];
  T* out = data_of<T>(operation.out) + token * width + column;
  float x[kCount] = {};
  if (entry >= 0 && entry < operation.table.shape[0]) {
    load(x, data_of<const T>(operation.table) + entry * width + column);
  } else if (column == 0) {
    report(&faults->index_outside_table, entry);
  }
  if (operation.accumulate) {
    float before[kCount];
    load(before, out);
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] += before[i];
  }
  store(out, x);
}

// Tokens of no entry come behind all others.
template <class Index>
__global__ void list_occurrences(Occurrence* occurrences, Faults* faults, const Index* index,
                                 std::int64_t tokens, std::int64_t entries) {
  const std::int64_t token = thread_number();
  if (token >= tokens) return;
  const std::int64_t entry = index[token];
  const bool inside = entry >= 0 && entry < entries;
  if (!inside) report(&faults->index_outside_table, entry);
  occurrences[token] = {.entry = inside ? entry : entries, .token = token};
}

// Occurrences in the order of entries, cut into pieces. Only the piece in which the run of an entry
// begins adds to the entry; of a run that began before it, a piece leaves its part in `parts`.
struct SortedGradient {
  float* d_table;
  float* parts;  // [pieces, width]
  const Occurrence* sorted;
  std::int64_t tokens;
  std::int64_t entries;
  std::int64_t width;
  std::int64_t piece;

  __device__ bool continues(std::int64_t at) const {
    return at > 0 && at < tokens && sorted[at - 1].entry == sorted[at].entry;
  }
};

template <int kCount>
__device__ void add_to(float* to, const float (&sums)[kCount]) {
  float numbers[kCount];
  load(numbers, to);
#pragma unroll
  for (int i = 0; i < kCount; ++i) numbers[i] += sums[i];
  store(to, numbers);
}

// A thread a pack of columns of a piece.
template <class T, int kCount>
__global__ void add_pieces(const T* d_out, const __grid_constant__ SortedGradient gradient) {
  const std::int64_t packs = gradient.width / kCount;
  const std::int64_t piece = thread_number() / packs;
  const std::int64_t column = thread_number() % packs * kCount;
  const std::int64_t begin = piece * gradient.piece;
  if (begin >= gradient.tokens) return;
  const std::int64_t end =
      begin + gradient.piece < gradient.tokens ? begin + gradient.piece : gradient.tokens;
  float* part =
      gradient.continues(begin) ? gradient.parts + piece * gradient.width + column : nullptr;
  float sums[kCount] = {};
  Occurrence next = gradient.sorted[begin];
  for (std::int64_t at = begin; at < end; ++at) {
    const Occurrence occurrence = next;
    if (at + 1 < end) next = gradient.sorted[at + 1];
    if (occurrence.entry == gradient.entries) break;
    float x[kCount];
    load(x, d_out + occurrence.token * gradient.width + column);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += x[i];
    if (at + 1 < end && next.entry == occurrence.entry) continue;
    if (part != nullptr) {
      store(part, sums);
      part = nullptr;
    } else {
      add_to(gradient.d_table + occurrence.entry * gradient.width + column, sums);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] = 0;
  }
}

// Where a run goes on into the next piece, the thread of that piece adds all its parts, in order.
template <int kCount>
__global__ void add_parts(const __grid_constant__ SortedGradient gradient) {
  const std::int64_t packs = gradient.width / kCount;
  const std::int64_t first = thread_number() / packs;
  const std::int64_t column = thread_number() % packs * kCount;
  const std::int64_t begin = first * gradient.piece;
  if (!gradient.continues(begin)) return;
  const std::int64_t entry = gradient.sorted[begin].entry;
  if (entry == gradient.entries) return;
  const std::int64_t before = begin - gradient.piece;
  if (gradient.continues(before) && gradient.sorted[before].entry == entry) return;
  float sums[kCount] = {};
  for (std::int64_t at = begin; at < gradient.tokens && gradient.sorted[at].entry == entry;
       at += gradient.piece) {
    float part[kCount];
    load(part, gradient.parts + at / gradient.piece * gradient.width + column);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += part[i];
  }
  add_to(gradient.d_table + entry * gradient.width + column, sums);
}

// Enough pieces to fill a GPU, not so many that their parts take much memory; a function of the
// number of tokens alone, so that results are.
std::int64_t piece_of(std::int64_t tokens) {
  constexpr std::int64_t kPieces = 4096;
  constexpr std::int64_t kSmallest = 16;
  return std::max(kSmallest, pieces_of(tokens, kPieces));
}

}  // namespace

void execute(Cuda& cuda, const Embedding& operation) {
  const auto& [out, table, index, accumulate] = operation;
  for_gpu_type(out.dtype, [&]<class T>() {
    for_gpu_index_type(index.dtype, [&]<class Index>() {
      for_pack<T>(rows_in_vectors({out, table}), [&]<int kCount>() {
        launch_threads(out.size() / kCount, cuda.stream(), look_up<T, Index, kCount>, cuda.faults(),
                       operation);
      });
    });
  });
}

void execute(Cuda& cuda, const EmbeddingBackward& operation) {
  const auto& [d_table, d_out, index] = operation;
  SortedGradient gradient = {.d_table = d_table.as<float>(),
                             .tokens = d_out.shape[0],
                             .entries = d_table.shape[0],
                             .width = d_table.shape[1]};
  const std::int64_t tokens = gradient.tokens;
  if (d_out.size() == 0) return;
  gradient.piece = piece_of(tokens);
  const std::int64_t pieces = pieces_of(tokens, gradient.piece);
  // Occurrences twice, what the sort counts, and the parts; whole 16 bytes each but the last.
  const std::int64_t counts = sort_counts(tokens);
  auto* occurrences = reinterpret_cast<Occurrence*>(
      cuda.scratch<std::byte>(2 * tokens * static_cast<std::int64_t>(sizeof(Occurrence)) +
                              counts * static_cast<std::int64_t>(sizeof(std::int64_t)) +
                              pieces * gradient.width * static_cast<std::int64_t>(sizeof(float))));
  auto* counted = reinterpret_cast<std::int64_t*>(occurrences + 2 * tokens);
  gradient.parts = reinterpret_cast<float*>(counted + counts);
  for_gpu_index_type(index.dtype, [&]<class Index>() {
    launch_threads(tokens, cuda.stream(), list_occurrences<Index>, occurrences, cuda.faults(),
                   index.as<const Index>(), tokens, gradient.entries);
  });
  gradient.sorted = sort_by_entry(cuda.stream(), occurrences, occurrences + tokens, counted, tokens,
                                  gradient.entries);
  for_gpu_type(d_out.dtype, [&]<class T>() {
    for_pack<T>(rows_in_vectors({d_table, d_out}), [&]<int kCount>() {
      const std::int64_t threads = pieces * gradient.width / kCount;
      launch_threads(threads, cuda.stream(), add_pieces<T, kCount>, d_out.as<const T>(), gradient);
      launch_threads(threads, cuda.stream(), add_parts<kCount>, gradient);
    });
  });
}

}  // namespace longscan

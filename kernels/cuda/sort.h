// Tokens in the order of their entries, those of one entry in the order of tokens.
#pragma once

#include <cstdint>

#include "kernels/cuda/gpu.h"

namespace longscan {

struct alignas(16) Occurrence {
  std::int64_t entry;
  std::int64_t token;
};

/// Numbers that `sort_by_entry` needs to count in.
std::int64_t sort_counts(std::int64_t count);

/// Sorts by entries, from 0 to `largest`, and keeps the order of equal ones. The result is in
/// `occurrences` or in `other`, which has room for as many: returns where. `counts` has room for
/// sort_counts(count) numbers.
Occurrence* sort_by_entry(cudaStream_t stream, Occurrence* occurrences, Occurrence* other,
                          std::int64_t* counts, std::int64_t count, std::int64_t largest);

}  // namespace longscan

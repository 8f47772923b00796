// The one way in which numbers of several ranks are added up: rank by rank, from the first.
#pragma once

#include <fmt/format.h>

#include <cstdint>

#include "kernels/error.h"
#include "kernels/tensor.h"

namespace longscan {

/// sum[i] = part(0)[i] + part(1)[i] + ... for i in [0, count), where `part(rank)` points to that
/// rank's numbers. `sum` may be none of the parts.
template <class T, class Part>
void sum_in_rank_order(T* sum, std::int64_t count, int ranks, const Part& part) {
  for (int rank = 0; rank < ranks; ++rank) {
    const T* addend = reinterpret_cast<const T*>(part(rank));
    if (rank == 0) {
      for (std::int64_t i = 0; i < count; ++i) sum[i] = addend[i];
    } else {
      for (std::int64_t i = 0; i < count; ++i) sum[i] += addend[i];
    }
  }
}

/// The same for a type that is known at run time: f32, f64 or i64; any other throws internal.
template <class Part>
void sum_in_rank_order(const Tensor& sum, int ranks, const Part& part) {
  switch (sum.dtype) {
    case DType::f32:
      return sum_in_rank_order(sum.as<float>(), sum.size(), ranks, part);
    case DType::f64:
      return sum_in_rank_order(sum.as<double>(), sum.size(), ranks, part);
    case DType::i64:
      return sum_in_rank_order(sum.as<std::int64_t>(), sum.size(), ranks, part);
    default:
      throw Error(ErrorKind::internal,
                  {.what = fmt::format("{} cannot be summed over ranks", describe(sum)),
                   .why = "sums are of f32, f64 or i64"});
  }
}

}  // namespace longscan

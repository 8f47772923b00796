// What the CPU kernels of every attention with a softmax share.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cpu/exponents.h"
#include "kernels/cpu/vector_math.h"

namespace longscan {

/// 1 / sqrt(dim), what products of queries and keys are multiplied by.
template <class T>
T scale_of(std::int64_t dim) {
  return static_cast<T>(1 / std::sqrt(static_cast<double>(dim)));
}

/// row = e^(row - maximum), with the largest of the row and of `so_far` as the maximum. Numbers
/// that are -infinity become 0, also where all are.
template <class T>
struct Exponentials {
  T maximum;
  T sum;

  Exponentials(T* row, std::int64_t count, T so_far = exponents::kNone<T>) {
    T largest = so_far;
#pragma omp simd reduction(max : largest)
    for (std::int64_t i = 0; i < count; ++i) largest = vector_math::larger(row[i], largest);
    const T subtracted = exponents::reference(largest);
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t i = 0; i < count; ++i) {
      row[i] = vector_math::exp(row[i] - subtracted);
      total += row[i];
    }
    maximum = largest;
    sum = total;
  }
};

}  // namespace longscan

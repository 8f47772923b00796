// Sums that are kept as multiples of e^exponent: how such numbers are brought to one exponent.
#pragma once

#include <limits>

#include "kernels/cpu/vector_math.h"

namespace longscan::exponents {

/// The exponent of a sum of nothing.
template <class T>
constexpr T kNone = -std::numeric_limits<T>::infinity();

/// `exponent`, or 0 where there is none: what may be subtracted from any exponent.
template <class T>
[[gnu::always_inline]] inline T reference(T exponent) {
  return exponent == kNone<T> ? T{0} : exponent;
}

/// e^(from - to), 0 where nothing has the exponent `from`. NaN stays NaN.
template <class T>
[[gnu::always_inline]] inline T ratio(T from, T to) {
  return vector_math::exp(from - reference(to));
}

}  // namespace longscan::exponents

// Elementary functions without branches, so that the compiler turns a loop over them into vector
// instructions.
//
// Call them in loops marked `#pragma omp simd` (with a reduction clause where there is a sum or
// maximum). They are always inlined: a copy of its own would be compiled once per translation unit
// with that unit's instruction set, and the linker would keep any one of them.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace longscan::vector_math {

/// e^x as mantissa * 2^n, for |x| <= 105. With n = round(x / ln 2) and r = x - n ln 2 the mantissa
/// is e^r, a polynomial (Moshier's Cephes, expf).
struct SplitExponential {
  float mantissa;
  std::uint32_t rounded;  ///< the bits of 1.5 * 2^23 + n, so that n is in its low bits
};
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer

[[gnu::always_inline]] inline SplitExponential split_exponential(float x) {
  const float rounded = x * 1.44269504088896341f + kRounder;
  const float n = rounded - kRounder;
  // ln 2 in two parts, the first with so few bits that n times it is exact.
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {p * (r * r) + r + 1.0f, std::bit_cast<std::uint32_t>(rounded)};
}

/// e^x to 1.1 ulp over the whole range: 0 below -103.98, denormals between there and -87.3,
/// infinity above 88.73, NaN of NaN.
[[gnu::always_inline]] inline float exp(float x) {
  // Beyond these bounds 0 and infinity come out by themselves; the comparisons let NaN through.
  x = x < -105.0f ? -105.0f : x;
  x = x > 90.0f ? 90.0f : x;
  const SplitExponential split = split_exponential(x);
  const std::uint32_t exponent = split.rounded - std::bit_cast<std::uint32_t>(kRounder);
  // 2^n in two factors, since n reaches beyond the exponents of normal numbers on both sides.
  const std::uint32_t half = static_cast<std::uint32_t>(static_cast<std::int32_t>(exponent) >> 1);
  const float scale1 = std::bit_cast<float>((half + 127u) << 23);
  const float scale2 = std::bit_cast<float>((exponent - half + 127u) << 23);
  return split.mantissa * scale1 * scale2;
}
[[gnu::always_inline]] inline double exp(double x) {
  return std::exp(x);
}

/// e^x for x <= 0 at two thirds of the cost of `exp`: without denormals, e^-87 below -87.
[[gnu::always_inline]] inline float exp_of_negative(float x) {
  const SplitExponential split = split_exponential(x < -87.0f ? -87.0f : x);
  // The low bits of `rounded` shifted to the place of the exponent add n to the mantissa's own.
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(split.mantissa) + (split.rounded << 23));
}
[[gnu::always_inline]] inline double exp_of_negative(double x) {
  return std::exp(x);
}

/// 1 / (1 + e^-x).
template <class T>
[[gnu::always_inline]] inline T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

/// The larger, `b` where either is NaN: one instruction, unlike std::fmax.
template <class T>
[[gnu::always_inline]] inline T larger(T a, T b) {
  return a > b ? a : b;
}

/// gelu in the tanh form, written with a sigmoid: gelu(x) = x s, s = sigmoid(2u), u = sqrt(2/pi) (x
/// + 0.044715 x^3).
template <class T>
struct Gelu {
  static constexpr T kScale = T(1.5957691216057307117597842397375);  // 2 sqrt(2/pi)
  static constexpr T kCubic = T(0.044715);

  [[gnu::always_inline]] static T value(T x) {
    return x * sigmoid(kScale * (x + kCubic * x * x * x));
  }
  /// gelu'(x) = s + x s (1 - s) d(2u)/dx.
  [[gnu::always_inline]] static T derivative(T x) {
    const T square = x * x;
    const T s = sigmoid(kScale * (x + kCubic * square * x));
    return s + x * s * (T(1) - s) * kScale * (T(1) + T(3) * kCubic * square);
  }
};

/// Sine and cosine of an angle in turns, |turns| <= 0.5, to about 1 ulp: the nearest quarter turn
/// is taken off, the rest goes through the polynomials of fdlibm (k_sin.c, k_cos.c).
struct SineCosine {
  double sine;
  double cosine;
};
[[gnu::always_inline]] inline SineCosine sine_cosine_of_turns(double turns) {
  constexpr double kRounder = 0x1.8p52;
  const double rounded = turns * 4.0 + kRounder;
  const auto quarters = std::bit_cast<std::uint64_t>(rounded);
  const double x = (turns - (rounded - kRounder) * 0.25) * 6.283185307179586476925286766559;
  const double z = x * x;
  double s = 1.58969099521155010221e-10;
  s = s * z - 2.50507602534068634195e-08;
  s = s * z + 2.75573137070700676789e-06;
  s = s * z - 1.98412698298579493134e-04;
  s = s * z + 8.33333333332248946124e-03;
  s = s * z - 1.66666666666666324348e-01;
  s = x + x * z * s;
  double c = -1.13596475577881948265e-11;
  c = c * z + 2.08757232129817482790e-09;
  c = c * z - 2.75573143513906633035e-07;
  c = c * z + 2.48015872894767294178e-05;
  c = c * z - 1.38888888888741095749e-03;
  c = c * z + 4.16666666666666019037e-02;
  c = 1.0 - (0.5 * z - z * z * c);
  // A quarter turn makes the sine a cosine; the second and third quarter turn the sign.
  const bool swapped = (quarters & 1) != 0;
  const double sine = swapped ? c : s;
  const double cosine = swapped ? s : c;
  return {(quarters & 2) != 0 ? -sine : sine, ((quarters + 1) & 2) != 0 ? -cosine : cosine};
}

}  // namespace longscan::vector_math

// bf16 on the host: the upper half of an f32.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace longscan {

/// The number in storage; arithmetic is done in f32.
struct Bfloat16 {
  std::uint16_t bits = 0;

  Bfloat16() = default;
  /// Rounded to the nearest, ties to even; NaN stays NaN.
  explicit Bfloat16(float number) {
    const auto word = std::bit_cast<std::uint32_t>(number);
    const std::uint32_t rounded = word + 0x7FFF + ((word >> 16) & 1);
    bits = static_cast<std::uint16_t>((std::isnan(number) ? word | 0x400000 : rounded) >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
};

}  // namespace longscan

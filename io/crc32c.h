// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) and TensorFlow's masked form, which guard
// event files.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace longscan {

constexpr std::array<std::uint32_t, 256> crc32c_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = (remainder >> 1) ^ (remainder & 1 ? 0x82F63B78u : 0u);
    }
    table[byte] = remainder;
  }
  return table;
}

constexpr std::uint32_t crc32c(std::string_view bytes) {
  constexpr std::array<std::uint32_t, 256> kTable = crc32c_table();
  std::uint32_t checksum = ~0u;
  for (const char byte : bytes) {
    checksum = kTable[(checksum ^ static_cast<unsigned char>(byte)) & 0xFF] ^ (checksum >> 8);
  }
  return ~checksum;
}

/// Rotated and shifted, so that the checksum of bytes that contain checksums stays a good one.
constexpr std::uint32_t masked_crc32c(std::string_view bytes) {
  const std::uint32_t checksum = crc32c(bytes);
  return ((checksum >> 15) | (checksum << 17)) + 0xA282EAD8u;
}

}  // namespace longscan

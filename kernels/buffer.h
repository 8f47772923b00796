// Owned memory of a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace longscan {

/// Bytes of one device, aligned to 64 at least (a cache line, an AVX-512 register), zeroed when
/// made. Move-only. `Device::allocate` makes one in the memory of its device.
class Buffer {
 public:
  /// Gives memory back.
  using Release = void (*)(std::byte*);

  Buffer() = default;
  /// Of the host's memory. Throws internal when `bytes` is negative, std::bad_alloc when there is
  /// no memory.
  explicit Buffer(std::int64_t bytes);
  /// Takes `bytes` bytes at `data` over, which `release` will give back.
  Buffer(std::byte* data, std::int64_t bytes, Release release)
      : data_(data, Free{release}), bytes_(bytes) {}

  std::byte* data() const { return data_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    Release release;
    void operator()(std::byte* data) const { release(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::int64_t bytes_ = 0;
};

}  // namespace longscan

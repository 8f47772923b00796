// How a block of scratch memory is divided.
#pragma once

#include <cstdint>

namespace longscan {

/// Makes one pointer after another out of a block of scratch memory, each 64-byte aligned.
template <class T>
class Carve {
 public:
  explicit Carve(T* memory) : next_(memory) {}
  T* take(std::int64_t count) {
    T* piece = next_;
    next_ += padded(count);
    return piece;
  }
  static std::int64_t padded(std::int64_t count) { return (count + 15) / 16 * 16; }

 private:
  T* next_;
};

}  // namespace longscan

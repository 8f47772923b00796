// Matrix products by cuBLASLt.
#pragma once

namespace longscan {

/// One a GPU.
class Blas {
 public:
  explicit Blas(bool tf32) : tf32_(tf32) {}

  bool tf32() const { return tf32_; }

 private:
  bool tf32_;
};

}  // namespace longscan

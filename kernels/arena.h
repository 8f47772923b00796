// Memory for the activations of one step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels/device.h"

namespace longscan {

/// Hands out tensors one behind the other and takes them all back at once. The first step finds out
/// how much is needed, in blocks; `rewind` then makes one block of that much, so later steps of the
/// same shape allocate nothing.
class Arena {
 public:
  /// `device`, whose memory it takes, must outlive the arena.
  explicit Arena(Device& device) : device_(device) {}

  /// A dense tensor with undefined contents, valid until `rewind` or until a rewind to an earlier
  /// mark.
  Tensor take(DType dtype, std::initializer_list<std::int64_t> shape);

  /// A position to go back to. Tensors taken after it die with `rewind_to`.
  struct Mark {
    std::size_t block = 0;
    std::int64_t used = 0;
    std::int64_t in_use = 0;
  };
  Mark mark() const { return {block_, used_, in_use_}; }
  void rewind_to(Mark mark);
  /// Takes everything back.
  void rewind();

  /// Bytes held now. Behind a `rewind`, the most that was ever in use, or the smallest block.
  std::int64_t bytes() const;

 private:
  Device& device_;
  std::vector<Buffer> blocks_;
  std::size_t block_ = 0;
  std::int64_t used_ = 0;    // of that block
  std::int64_t in_use_ = 0;  // of all
  std::int64_t most_ = 0;    // that was ever in use
};

}  // namespace longscan

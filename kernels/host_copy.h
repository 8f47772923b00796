// What a device has computed, where the host can read it.
#pragma once

#include "kernels/device.h"

namespace longscan {

class HostCopy {
 public:
  /// A dense tensor of the device in host memory, bf16 as f32: on the CPU the tensor itself, else a
  /// copy that lives until the next call. Waits for the device.
  Tensor of(Device& device, const Tensor& tensor);

 private:
  Buffer memory_;
  Buffer widened_;
};

}  // namespace longscan

// Down from the device, and wider where that is needed.
#include "kernels/host_copy.h"

#include "kernels/bfloat16.h"

namespace longscan {

Tensor HostCopy::of(Device& device, const Tensor& tensor) {
  if (device.on_host()) return tensor;
  if (memory_.bytes() < tensor.bytes()) memory_ = device.allocate_on_host(tensor.bytes());
  Tensor copy = tensor;
  copy.data = memory_.data();
  device.download(copy.data, tensor);
  if (tensor.dtype != DType::bf16) return copy;
  const std::int64_t bytes = tensor.size() * size_of(DType::f32);
  if (widened_.bytes() < bytes) widened_ = Buffer(bytes);
  Tensor wide = copy;
  wide.dtype = DType::f32;
  wide.data = widened_.data();
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    wide.as<float>()[i] = static_cast<float>(copy.as<Bfloat16>()[i]);
  }
  return wide;
}

}  // namespace longscan

// Numbers in the memory of a device, put there from host memory and taken back.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"

namespace longscan::test {

/// A dense tensor of any device in host memory.
template <class T>
std::vector<T> on_host(Device& device, const Tensor& tensor) {
  std::vector<T> numbers(static_cast<std::size_t>(tensor.size()));
  if (!numbers.empty()) device.download(numbers.data(), tensor);
  return numbers;
}

template <class T>
class DeviceNumbers {
 public:
  DeviceNumbers(Device& device, const std::vector<T>& numbers)
      : device_(device),
        memory_(device.allocate(std::ssize(numbers) * static_cast<std::int64_t>(sizeof(T)))),
        count_(std::ssize(numbers)) {
    if (count_ > 0) device.upload(tensor(), numbers.data());
  }

  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  Tensor tensor() const { return Tensor::dense(memory_.data(), DTypeOf<T>::value, {count_}); }
  std::vector<T> numbers() const { return on_host<T>(device_, tensor()); }

 private:
  Device& device_;
  Buffer memory_;
  std::int64_t count_;
};

}  // namespace longscan::test

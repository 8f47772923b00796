// Operations on host tensors, run on a GPU (or on what stands for one): the same test, another
// device.
#pragma once

#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "tests/support/reference.h"

namespace longscan::test {

/// Whether there is a GPU, or the build's stand-in for one.
inline bool has_cuda() {
  return find_cuda_devices().count > 0;
}

/// Whether it is the stand-in, which takes a million times as long.
inline bool is_stand_in(const Device& gpu) {
  return gpu.name() == "cuda_on_cpu";
}

/// Runs operations whose operands are views of host tensors: copies these to the GPU, puts the
/// copies in the operands' place, and copies all back behind the operation.
class OnCuda {
 public:
  /// All tensors that the operations will work on, in whole or in part. Must outlive the object.
  OnCuda(Device& device, std::vector<const OwnedTensor*> tensors) : device_(device) {
    for (const OwnedTensor* tensor : tensors) {
      if (tensor->size() == 0) continue;
      Tensor twin = tensor->view();
      memory_.push_back(device.allocate(twin.bytes()));
      twin.data = memory_.back().data();
      pairs_.push_back({tensor->view(), twin});
    }
  }

  template <class Operation>
  void run(Operation operation) {
    static_assert(std::is_trivially_copyable_v<Operation>);
    for (const Pair& pair : pairs_) device_.upload(pair.twin, pair.host.data);
    relocate(&operation, sizeof(operation));
    device_.run(operation);
    for (const Pair& pair : pairs_) device_.download(pair.host.data, pair.twin);
  }

 private:
  struct Pair {
    Tensor host;
    Tensor twin;
  };

  // Operations are made of tensors and numbers: every tensor in one that views a host tensor views
  // the same place of its twin instead. Looking for tensors, and not for addresses alone, passes
  // over what chance has left in the padding beside a bool.
  void relocate(void* operation, std::size_t bytes) const {
    auto* memory = static_cast<char*>(operation);
    for (std::size_t at = 0; at + sizeof(Tensor) <= bytes; at += alignof(Tensor)) {
      Tensor tensor;
      std::memcpy(&tensor, memory + at, sizeof(tensor));
      if (tensor.rank < 1 || tensor.rank > Tensor::kMaxRank) continue;
      for (const Pair& pair : pairs_) {
        const std::ptrdiff_t offset = tensor.as<char>() - pair.host.as<char>();
        if (tensor.dtype != pair.host.dtype || offset < 0 || offset >= pair.host.bytes()) continue;
        tensor.data = pair.twin.as<char>() + offset;
        std::memcpy(memory + at, &tensor, sizeof(tensor));
        break;
      }
    }
  }

  Device& device_;
  std::vector<Buffer> memory_;
  std::vector<Pair> pairs_;
};

}  // namespace longscan::test

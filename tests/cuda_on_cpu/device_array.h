// An array on the emulated GPU, for the emulation's own tests.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "tests/cuda_on_cpu/configuration.h"

namespace longscan::cuda_on_cpu {

template <class T>
class DeviceArray {
 public:
  /// As the device hands it out.
  explicit DeviceArray(std::size_t size) : size_(size) {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, size * sizeof(T)), cudaSuccess);
    data_.reset(static_cast<T*>(data));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(get(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }

  T* get() const { return data_.get(); }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    EXPECT_EQ(cudaMemcpy(result.data(), get(), size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return result;
  }

 private:
  struct Free {
    void operator()(T* data) const { cudaFree(data); }
  };
  std::size_t size_;
  std::unique_ptr<T, Free> data_;
};

/// Calls run() in every order of threads and arrival of copies, and restores what was configured.
template <class Run>
void in_all_orders(Run run) {
  const Configuration before = configuration();
  for (const Order order : {Order::forward, Order::reverse, Order::random}) {
    for (const Arrival arrival : {Arrival::early, Arrival::late}) {
      configuration().order = order;
      configuration().arrival = arrival;
      SCOPED_TRACE(testing::Message() << "order " << static_cast<int>(order) << " arrival "
                                      << static_cast<int>(arrival));
      run();
    }
  }
  configuration() = before;
}

}  // namespace longscan::cuda_on_cpu

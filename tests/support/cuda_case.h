// Tests of a GPU's operations: the types it computes in, and the same numbers in double for the
// CPU.
#pragma once

#include <string>

#include "tests/support/on_cuda.h"
#include "tests/support/reference.h"

namespace longscan::test {

/// The same numbers in double.
inline OwnedTensor in_double(const OwnedTensor& tensor) {
  const Tensor& view = tensor.view();
  if (view.rank == 1) return {DType::f64, {view.shape[0]}, tensor.values()};
  if (view.rank == 2) return {DType::f64, {view.shape[0], view.shape[1]}, tensor.values()};
  return {DType::f64, {view.shape[0], view.shape[1], view.shape[2]}, tensor.values()};
}

/// Tests that run for every type of a GPU, where there is one.
class CudaOfType : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << "there is no GPU";
    devices_.push_back(Device::cuda(0));
  }

  Device& gpu() { return devices_.front(); }

  const DType dtype = GetParam();
  Device cpu = Device::cpu(1);

 private:
  std::vector<Device> devices_;
};

inline std::string type_name(const testing::TestParamInfo<DType>& info) {
  return name_of(info.param);
}

}  // namespace longscan::test

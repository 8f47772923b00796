// Stands for kernels/cuda/ in a build without it.
#include "kernels/backends.h"
#include "kernels/error.h"
#include "kernels/gpu_address.h"

namespace longscan {

CudaDevices find_cuda_devices() {
  return {.why_none = "this build has no CUDA: CMake found no CUDA compiler"};
}

Backend make_cuda(int /*index*/, const CudaOptions& /*options*/) {
  throw Error(ErrorKind::usage, {.what = "there is no GPU to compute on",
                                 .why = find_cuda_devices().why_none,
                                 .hint = "install the CUDA toolkit and build again"});
}

std::string gpu_address(int /*index*/) {
  return "none";
}

}  // namespace longscan

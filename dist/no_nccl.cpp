// Stands for dist/nccl_communicator.cpp in a build without NCCL.
#include "dist/device_communicator.h"
#include "dist/nccl_communicator.h"
#include "kernels/error.h"

namespace longscan {

bool has_nccl() {
  return false;
}

void require_nccl(Device& /*device*/) {
  throw Error(ErrorKind::usage, {.what = "there is no NCCL to carry data between GPUs",
                                 .why = "this build lacks it",
                                 .hint = "take --communicator=mpi"});
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& /*host*/, Device& device) {
  require_nccl(device);
  return nullptr;
}

}  // namespace longscan

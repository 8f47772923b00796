// The message of dispatch.h, apart from it: CUDA's compiler does not take fmt's checked formats.
#include "kernels/error.h"
#include "kernels/tensor.h"

namespace longscan {

[[noreturn]] void refuse_on_gpu(DType dtype, const char* expected) {
  throw Error(ErrorKind::internal,
              {.what = fmt::format("an operation on {}", name_of(dtype)), .why = expected});
}

}  // namespace longscan

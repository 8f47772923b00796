// Which GPU an index stands for: processes may be shown different ones under the same numbers.
#pragma once

#include <string>

namespace longscan {

/// What no two GPUs share, for GPU `index` as this process counts them.
std::string gpu_address(int index);

}  // namespace longscan

// What linear attention on the GPU cannot hold, said so: apart from the kernels, since CUDA's
// compiler does not take the library's formatted messages.
#pragma once

#include <cstdint>

namespace longscan::gpu_attention {

/// Throws usage: no kernel has room for heads of so many numbers.
[[noreturn]] void refuse_head_size(std::int64_t numbers);

/// Throws usage: a block would need more shared memory than the limit.
[[noreturn]] void refuse_state(std::int64_t features, std::int64_t head_size, std::int64_t bytes,
                               std::int64_t limit);

}  // namespace longscan::gpu_attention

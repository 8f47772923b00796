// What the host has called that a test may want to know of: what keeps it waiting, or the GPU, and
// what saves it calls.
#pragma once

#include <cstdint>

namespace longscan::cuda_on_cpu {

/// Of all threads, since the program began.
struct HostCalls {
  /// For streams, events and the device. To ask whether they are ready counts too: so does a host
  /// wait that looks after something else meanwhile. So do copies from and to pageable memory,
  /// which need not wait, but may.
  std::int64_t waits = 0;
  /// Of device memory and pinned memory, and where it was given back: all that may wait as well.
  std::int64_t allocations = 0;
  std::int64_t graphs = 0;  ///< launched
};
HostCalls host_calls();

void count_wait();
void count_allocation();
void count_graph();

}  // namespace longscan::cuda_on_cpu

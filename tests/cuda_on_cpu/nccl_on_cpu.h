// What tests see of the NCCL between emulated GPUs, whose ranks are threads of one process, and
// what they may do to it.
#pragma once

namespace longscan::cuda_on_cpu {

/// What has become of communicators since the program began.
struct NcclCounts {
  int made = 0;
  int destroyed = 0;  ///< in order, after they were finalized
  int aborted = 0;
};
NcclCounts nccl_counts();

/// What goes on over the communicators that are there now fails, as when a network does.
void break_nccl();

}  // namespace longscan::cuda_on_cpu

// Counters.
#include "tests/cuda_on_cpu/host_calls.h"

#include <atomic>

namespace longscan::cuda_on_cpu {

namespace {
std::atomic<std::int64_t> waits = 0;
std::atomic<std::int64_t> allocations = 0;
std::atomic<std::int64_t> graphs = 0;
}  // namespace

HostCalls host_calls() {
  return {.waits = waits, .allocations = allocations, .graphs = graphs};
}

void count_wait() {
  ++waits;
}

void count_allocation() {
  ++allocations;
}

void count_graph() {
  ++graphs;
}

}  // namespace longscan::cuda_on_cpu

// What kernels see of the executor, which runs every thread of a block as a fiber: who they are,
// where they meet, and how they fail.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <stdexcept>
#include <string>

namespace longscan::cuda_on_cpu {

using Location = std::source_location;

/// What is wrong with a kernel or its launch. Not a longscan::Error, so that no test that expects
/// one takes this for it.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Block {
  uint3 index{};
  dim3 extent;  ///< threads
  dim3 grid;    ///< blocks
};

struct Thread {
  uint3 index{};
  int rank = 0;  ///< in the block
  const Block* block = nullptr;
};

constexpr int kWarpSize = 32;
constexpr std::uint32_t kWholeWarp = 0xffffffffu;

/// The thread that the calling kernel runs as; null outside of kernels.
extern constinit thread_local Thread* current;

inline int lane() {
  return current->rank % kWarpSize;
}

/// Ends the launch with a Fault that names block and thread.
[[noreturn]] void fail(const std::string& what);

/// "linear.cu:33"
std::string describe(const Location& location);

enum class Vote { none, all, any, count };
/// Waits for all threads of the block, and tells what they have voted.
int block_barrier(Vote vote, bool ballot, Location location);

/// Called by the last lane to arrive, with the record of every lane in the mask.
using Combine = void (*)(void* const* records, std::uint32_t mask);
/// Waits for the lanes of the mask. All must come with the same mask, meaning the same operation.
/// It orders no accesses to memory.
void meet_in_warp(std::uint32_t mask, void* record, Combine combine, Location location);
/// Waits for the lanes of the mask, and orders their accesses to memory.
void warp_barrier(std::uint32_t mask, Location location);

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name);
void* all_dynamic_shared();
void* part_of_dynamic_shared(std::size_t offset, std::size_t bytes);
/// Whether the block's shared memory holds the address.
bool is_shared(const void* address);

/// A copy of 4, 8 or 16 bytes to shared memory, the last `zeros` of which are zero instead.
void issue_copy(void* to, const void* from, std::size_t bytes, std::size_t zeros,
                Location location);
void commit_copies();
/// Waits for all groups of copies but the latest `groups`.
void wait_for_copies(std::size_t groups);

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::int64_t shared_bytes = 0;
  Location where;
};

/// Runs `body(closure)` as every thread of the grid, on the calling thread. Throws Fault.
void run_grid(const LaunchShape& shape, void (*body)(const void*), const void* closure);

}  // namespace longscan::cuda_on_cpu

// What is wrong with a kernel or its launch is reported, with its place, and the next launch works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/sanitizers.h"

namespace longscan::cuda_on_cpu {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

__global__ void write_one(float* out, int) {
  out[threadIdx.x] = 1.0f;
}

// What a launch with 64 threads reports, or nothing.
template <class Kernel>
std::string fault_of(Kernel kernel, int number, std::int64_t shared_bytes = 0) {
  DeviceArray<float> out(64);
  std::string what;
  try {
    launch(kernel, 1, 64, shared_bytes, nullptr, out.get(), number);
  } catch (const Fault& fault) {
    what = fault.what();
  }
  launch(write_one, 2, 64, 0, nullptr, out.get(), 0);
  EXPECT_EQ(out.values(), std::vector<float>(64, 1.0f));
  return what;
}

__global__ void barrier_of_some(float* out, int count) {
  if (static_cast<int>(threadIdx.x) < count) __syncthreads();
  out[threadIdx.x] = 1.0f;
}

TEST(Faults, ABarrierThatNotAllThreadsComeTo) {
  in_all_orders([] {
    EXPECT_THAT(fault_of(barrier_of_some, 32),
                AllOf(StartsWith("launch at faults_test.cpp:"), HasSubstr("faults_test.cpp:")));
    EXPECT_EQ(fault_of(barrier_of_some, 64), "");
    EXPECT_EQ(fault_of(barrier_of_some, 0), "");
  });
}

__global__ void return_before_barrier(float* out, int count) {
  if (static_cast<int>(threadIdx.x) >= count) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}

TEST(Faults, ReturningBeforeABarrier) {
  in_all_orders([] {
    EXPECT_NE(fault_of(return_before_barrier, 33), "");
    EXPECT_EQ(fault_of(return_before_barrier, 64), "");
  });
}

__global__ void two_barriers(float* out, int count) {
  if (static_cast<int>(threadIdx.x) < count) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1.0f;
}

TEST(Faults, ThreadsAtDifferentBarriers) {
  EXPECT_THAT(fault_of(two_barriers, 32), HasSubstr("divergent barrier"));
  EXPECT_EQ(fault_of(two_barriers, 64), "");
}

__global__ void count_barriers(float* out, int) {
  for (unsigned i = 0; i <= threadIdx.x / 32; ++i) __syncthreads();
  out[threadIdx.x] = 1.0f;
}

TEST(Faults, WarpsWithDifferentNumbersOfBarriers) {
  in_all_orders([] { EXPECT_NE(fault_of(count_barriers, 0), ""); });
}

__global__ void shuffle_of_some(float* out, int count) {
  float value = 1.0f;
  if (static_cast<int>(threadIdx.x) < count) value = __shfl_xor_sync(~0u, value, 1);
  out[threadIdx.x] = value;
}

TEST(Faults, AShuffleThatNotAllLanesComeTo) {
  EXPECT_THAT(fault_of(shuffle_of_some, 16),
              AllOf(HasSubstr("deadlock"), HasSubstr("16 threads, first 0: waiting for lanes")));
  EXPECT_EQ(fault_of(shuffle_of_some, 32), "");
}

__global__ void shuffle_outside_mask(float* out, int) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 3);
}
__global__ void shuffle_from_outside_mask(float* out, int source) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, source);
}

TEST(Faults, MasksThatLeaveOutLanes) {
  EXPECT_THAT(fault_of(shuffle_outside_mask, 0), HasSubstr("that leaves it out"));
  EXPECT_THAT(fault_of(shuffle_from_outside_mask, 20), HasSubstr("not in the mask"));
  EXPECT_EQ(fault_of(shuffle_from_outside_mask, 15), "");
}

__global__ void lanes_that_miss(float* out, int) {
  if (threadIdx.x % 2 == 0) {
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
  } else {
    out[threadIdx.x] = static_cast<float>(__reduce_add_sync(~0u, 1));
  }
}

TEST(Faults, LanesThatMeanDifferentThings) {
  EXPECT_THAT(fault_of(lanes_that_miss, 0), HasSubstr("miss each other"));
}

__global__ void wait_across(float* out, int) {
  if (threadIdx.x == 3) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
}

TEST(Faults, ABarrierForOneAndAShuffleForOthers) {
  EXPECT_THAT(fault_of(wait_across, 0), HasSubstr("deadlock"));
}

__global__ void forget_copies(float* out, int wait) {
  SHARED(float, tile, [64]);
  __pipeline_memcpy_async(&tile[threadIdx.x], out + threadIdx.x, 4);
  __pipeline_commit();
  if (wait != 0) __pipeline_wait_prior(0);
}
__global__ void copy_misaligned(float* out, int offset) {
  SHARED(float4, tile, [64]);
  __pipeline_memcpy_async(&tile[threadIdx.x / 4], out + offset, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

TEST(Faults, AsynchronousCopiesThatAreForgottenOrMisaligned) {
  EXPECT_THAT(fault_of(forget_copies, 0), HasSubstr("never waited for"));
  EXPECT_EQ(fault_of(forget_copies, 1), "");
  EXPECT_THAT(fault_of(copy_misaligned, 1), HasSubstr("misaligned"));
  EXPECT_EQ(fault_of(copy_misaligned, 4), "");
}

__global__ void take_parts(float* out, int count) {
  SharedArena arena;
  arena.take<float>(16)[threadIdx.x % 16] = 1.0f;
  auto* part = arena.take<float>(static_cast<std::size_t>(count));
  part[threadIdx.x % count] = 1.0f;
  out[threadIdx.x] = 1.0f;
}

TEST(Faults, MoreSharedMemoryThanTheLaunchGave) {
  EXPECT_THAT(fault_of(take_parts, 32, 252), HasSubstr("of dynamic shared memory"));
  EXPECT_EQ(fault_of(take_parts, 32, 256), "");
}

__global__ void large_array(float* out, int) {
  SHARED(float, tile, [13 * 1024]);
  tile[threadIdx.x] = 1.0f;
  out[threadIdx.x] = 1.0f;
}

TEST(Faults, SharedArraysThatAreTooLarge) {
  EXPECT_THAT(fault_of(large_array, 0), HasSubstr("too many"));
}

__global__ void write_beside(float* out, int where) {
  SHARED(float, tile, [64]);
  float* beside = tile;
  beside[where] = 2.0f;
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x];
}
__global__ void write_beside_part(float* out, int where) {
  SharedArena arena;
  arena.take<float>(64)[where] = 2.0f;
  out[threadIdx.x] = arena.take<float>(64) != nullptr ? 1.0f : 0.0f;
}

// The address sanitizer, where it is at work, ends the program; but it cannot tell the four bytes
// before an array of floats from the array.
TEST(Faults, WritesBesideSharedMemory) {
  EXPECT_THAT(fault_of(write_beside, -1), HasSubstr("beside tile"));
#if !defined(LONGSCAN_ADDRESS_SANITIZER)
  EXPECT_THAT(fault_of(write_beside, -2), HasSubstr("beside tile"));
  EXPECT_THAT(fault_of(write_beside, 64), HasSubstr("beside tile"));
  EXPECT_THAT(fault_of(write_beside_part, -1, 512), HasSubstr("beside a part"));
  EXPECT_THAT(fault_of(write_beside_part, 64, 512), HasSubstr("beside a part"));
#else
  EXPECT_DEATH(fault_of(write_beside, -2), "heap-buffer-overflow");
  EXPECT_DEATH(fault_of(write_beside, 64), "heap-buffer-overflow");
  EXPECT_DEATH(fault_of(write_beside_part, -1, 512), "heap-buffer-overflow");
  EXPECT_DEATH(fault_of(write_beside_part, 64, 512), "heap-buffer-overflow");
#endif
  EXPECT_EQ(fault_of(write_beside, 63), "");
}

TEST(Faults, LaunchesThatNoGpuTakes) {
  DeviceArray<float> out(64);
  const auto attempt = [&](Grid grid, dim3 block, std::int64_t shared_bytes) {
    launch(write_one, grid, block, shared_bytes, nullptr, out.get(), 0);
  };
  EXPECT_THROW(attempt(dim3(1, 65536), 64, 0), Fault);
  EXPECT_THROW(attempt(dim3(0), 64, 0), Fault);
  EXPECT_THROW(attempt(1, 0, 0), Fault);
  EXPECT_THROW(attempt(1, 1025, 0), Fault);
  EXPECT_THROW(attempt(1, dim3(1, 1, 65), 0), Fault);
  EXPECT_THROW(attempt(1, 64, 227 * 1024 + 1), Fault);
  EXPECT_THROW(attempt(0, 64, 0), Fault);
  EXPECT_THROW(attempt(std::int64_t{1} << 31, 64, 0), Fault);
  EXPECT_NO_THROW(attempt(1, 64, 227 * 1024));
}

struct Operation {
  float* out;
  int size;
};
__global__ void run_operation(Operation operation) {
  operation.out[threadIdx.x] = 1.0f;
}

TEST(Faults, PointersToHostMemory) {
  std::vector<float> host(64);
  EXPECT_THROW(launch(write_one, 1, 64, 0, nullptr, host.data(), 0), Fault);
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  EXPECT_THROW(launch(run_operation, 1, 64, 0, nullptr, Operation{host.data() + 1, 63}), Fault);
#endif
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 256), cudaSuccess);
  launch(write_one, 1, 64, 0, nullptr, static_cast<float*>(pinned), 0);
  launch(run_operation, 1, 64, 0, nullptr, Operation{static_cast<float*>(pinned), 64});
  EXPECT_EQ(static_cast<float*>(pinned)[63], 1.0f);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

__global__ void trap(float*, int thread) {
  if (static_cast<int>(threadIdx.x) == thread) __trap();
  __syncthreads();
}

TEST(Faults, ATrapNamesBlockAndThread) {
  EXPECT_THAT(fault_of(trap, 43), HasSubstr("block (0, 0, 0) thread (43, 0, 0)"));
}

#if defined(LONGSCAN_ADDRESS_SANITIZER)
__global__ void write_at(float* out, int where) {
  if (threadIdx.x == 0) out[where] = 1.0f;
}
__global__ void read_vector(float* out, int where) {
  const auto* vectors = reinterpret_cast<const float4*>(out + where);
  out[threadIdx.x] = vectors->x;
}

TEST(Faults, TheAddressSanitizerSeesWhatIsBesideDeviceMemory) {
  EXPECT_DEATH(fault_of(write_at, 64), "heap-buffer-overflow");
  EXPECT_DEATH(fault_of(write_at, -1), "heap-buffer-overflow");
  EXPECT_EQ(fault_of(write_at, 63), "");
}

TEST(Faults, TheSanitizerOfUndefinedBehaviourSeesMisalignedVectors) {
  EXPECT_DEATH(fault_of(read_vector, 1), "misaligned");
  EXPECT_EQ(fault_of(read_vector, 4), "");
}

TEST(Faults, TheAddressSanitizerSeesTheHostInDeviceMemory) {
  DeviceArray<float> array(64);
  EXPECT_DEATH(array.get()[3] = 1.0f, "use-after-poison");
  launch(write_one, 1, 64, 0, nullptr, array.get(), 0);
  EXPECT_DEATH(array.get()[3] = 1.0f, "use-after-poison");
}
#endif

}  // namespace
}  // namespace longscan::cuda_on_cpu

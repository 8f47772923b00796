// NCCL's communicator where things go wrong, and in captured steps.
#include "dist/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "dist/device_communicator.h"
#include "dist/mesh.h"
#include "dist/thread_communicator.h"
#include "kernels/cuda/check.h"
#include "kernels/elementwise.h"
#include "kernels/error.h"
#include "tests/cuda_on_cpu/nccl_on_cpu.h"
#include "tests/support/device_numbers.h"

namespace longscan::test {
namespace {

using cuda_on_cpu::nccl_counts;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

void on_ranks(int ranks,
              const std::function<void(NcclCommunicator&, Communicator&, Device&)>& body) {
  run_ranks(ranks, [&](Communicator& host) {
    Device device = Device::cuda(0);
    NcclCommunicator group(host, device);
    host.barrier();  // nobody fails while others are still on their way
    body(group, host, device);
  });
}

/// What the body throws, in words.
template <class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(NcclCommunicator, ends_in_order) {
  const auto before = nccl_counts();
  on_ranks(3, [](NcclCommunicator& group, Communicator&, Device& device) {
    const DeviceNumbers<float> numbers(device, {1, 2});
    group.all_reduce_sum(numbers.tensor());
  });
  EXPECT_EQ(nccl_counts().made, before.made + 3);
  EXPECT_EQ(nccl_counts().destroyed, before.destroyed + 3);
  EXPECT_EQ(nccl_counts().aborted, before.aborted);
}

TEST(NcclCommunicator, is_made_only_for_ranks_that_hand_something_over) {
  const auto before = nccl_counts();
  run_ranks(4, [&](Communicator& host) {
    const auto expect_made = [&](int count) {
      host.barrier();
      EXPECT_EQ(nccl_counts().made, before.made + count);
      host.barrier();
    };
    Device device = Device::cuda(0);
    DeviceCommunicator world(host, device, Carrier::nccl);
    const Mesh mesh(world, 2);
    const Mesh alone(world, 1);
    const DeviceNumbers<float> mine(device, {1});
    const DeviceNumbers<float> all(device, {0, 0});
    expect_made(0);
    alone.sequence().for_device().all_gather(mine.data(), all.data(), 4);
    EXPECT_THAT(all.numbers(), testing::ElementsAre(1, 0));
    expect_made(0);
    mesh.sequence().for_device().all_gather(mine.data(), all.data(), 4);
    EXPECT_THAT(all.numbers(), testing::ElementsAre(1, 1));
    expect_made(4);
    world.for_device().all_reduce_sum(mine.tensor());
    EXPECT_THAT(mine.numbers(), testing::ElementsAre(4));
    expect_made(8);
  });
  EXPECT_EQ(nccl_counts().destroyed, before.destroyed + 8);
}

TEST(NcclCommunicator, counts_the_time_that_collectives_take_on_the_gpu) {
  on_ranks(2, [](NcclCommunicator& group, Communicator& host, Device& device) {
    const DeviceNumbers<float> numbers(device, {1, 2});
    group.all_reduce_sum(numbers.tensor());
    device.synchronize();
    const double before = group.traffic().seconds;
    const auto wait = std::chrono::milliseconds(30);
    host.barrier();
    if (group.rank() == 1) std::this_thread::sleep_for(wait);
    group.all_reduce_sum(numbers.tensor());
    device.synchronize();
    const double spent = group.traffic().seconds - before;
    // The host has not waited, but the GPU has, for rank 1.
    EXPECT_GE(spent, group.rank() == 0 ? 0.02 : 0.0);
    EXPECT_EQ(group.traffic().calls, 2);
  });
}

TEST(NcclCommunicator, is_aborted_where_an_error_leaves_it) {
  const auto before = nccl_counts();
  const auto fail = [](NcclCommunicator& group, Communicator&, Device&) {
    if (group.rank() == 0) throw std::runtime_error("no disk");
    group.barrier();
  };
  EXPECT_THROW(on_ranks(3, fail), std::runtime_error);
  EXPECT_EQ(nccl_counts().aborted, before.aborted + 3);
  EXPECT_EQ(nccl_counts().destroyed, before.destroyed);
}

TEST(NcclCommunicator, does_not_wait_for_ever_for_a_rank_that_never_comes) {
  const auto before = nccl_counts();
  std::string error;
  run_ranks(2, [&](Communicator& host) {
    char id[128] = {};
    if (host.rank() == 1) return host.broadcast(id, sizeof(id), 0);
    Device device = Device::cuda(0);
    const std::chrono::milliseconds patience(50);
    error = error_of([&] { const NcclCommunicator group(host, device, patience); });
  });
  EXPECT_THAT(error, AllOf(HasSubstr("ranks do not find each other over NCCL"),
                           HasSubstr("rank 0 has waited for 0.05 s"), HasSubstr("NCCL_DEBUG")));
  EXPECT_EQ(nccl_counts().aborted, before.aborted + 1);
}

TEST(NcclCommunicator, a_broken_network_ends_the_waiting_for_the_gpu) {
  const auto before = nccl_counts();
  on_ranks(2, [](NcclCommunicator& group, Communicator& host, Device& device) {
    const DeviceNumbers<float> mine(device, {1});
    const DeviceNumbers<float> all(device, {0, 0});
    // Rank 1 does not come: what rank 0 has begun can only end by the break.
    if (group.rank() == 0) {
      const auto pending = group.start_all_gather(mine.data(), all.data(), 4);
      cuda_on_cpu::break_nccl();
      EXPECT_THAT(error_of([&] { device.synchronize(); }),
                  AllOf(HasSubstr("a collective under way failed"), HasSubstr("system error"),
                        HasSubstr("--communicator=mpi")));
      EXPECT_THAT(error_of([&] { pending->wait(); }), HasSubstr("NCCL has failed before"));
    }
    host.barrier();
    if (group.rank() == 0) return;
    EXPECT_THAT(error_of([&] { group.broadcast(mine.data(), 4, 0); }), HasSubstr("system error"));
    EXPECT_THAT(error_of([&] { device.synchronize(); }), HasSubstr("NCCL has failed before"));
  });
  EXPECT_EQ(nccl_counts().aborted, before.aborted + 2);
}

TEST(NcclCommunicator, a_collective_that_was_given_up_ends_with_the_communicator) {
  const auto before = nccl_counts();
  on_ranks(2, [](NcclCommunicator& group, Communicator& host, Device& device) {
    const DeviceNumbers<float> mine(device, {1});
    {
      const DeviceNumbers<float> all(device, {0, 0});
      if (group.rank() == 0) static_cast<void>(group.start_all_gather(mine.data(), all.data(), 4));
    }
    host.barrier();
    EXPECT_NE(error_of([&] { group.broadcast(mine.data(), 4, 0); }), "");
  });
  EXPECT_EQ(nccl_counts().aborted, before.aborted + 2);
}

TEST(NcclCommunicator, a_call_that_nccl_refuses_is_an_error_with_its_text) {
  on_ranks(1, [](NcclCommunicator& group, Communicator&, Device&) {
    float on_host = 0;
    EXPECT_THAT(error_of([&] { group.broadcast(&on_host, 4, 0); }),
                AllOf(HasSubstr("ncclBroadcast(data, data"), HasSubstr("invalid argument")));
  });
}

TEST(NcclCommunicator, sums_no_halves) {
  on_ranks(2, [](NcclCommunicator& group, Communicator&, Device& device) {
    const Buffer memory = device.allocate(8);
    const Tensor numbers = Tensor::dense(memory.data(), DType::bf16, {4});
    EXPECT_THAT(error_of([&] { group.all_reduce_sum(numbers); }), HasSubstr("f32, f64 or i64"));
  });
}

TEST(NcclCommunicator, has_nothing_to_carry_between_cpus) {
  run_ranks(1, [](Communicator& host) {
    Device device = Device::cpu(1);
    EXPECT_THAT(error_of([&] { const NcclCommunicator group(host, device); }),
                HasSubstr("--device=cuda"));
  });
}

TEST(NcclCommunicator, is_part_of_a_captured_step) {
  on_ranks(2, [](NcclCommunicator& group, Communicator&, Device& device) {
    const DeviceNumbers<float> mine(device, {1.0F + static_cast<float>(group.rank())});
    const DeviceNumbers<float> all(device, {0, 0});
    const DeviceNumbers<float> copy(device, {0, 0});
    cudaStream_t stream = std::get<Cuda>(device.backend()).stream();
    CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    group.all_gather(mine.data(), all.data(), 4);
    device.run(Copy{.out = copy.tensor(), .in = all.tensor()});
    device.run(
        Copy{.out = mine.tensor(), .in = all.tensor().rows(1 - group.rank(), 2 - group.rank())});
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t executable = nullptr;
    CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    EXPECT_THAT(copy.numbers(), testing::ElementsAre(0, 0));
    for (int step = 0; step < 3; ++step) {
      CUDA_CHECK(cudaGraphLaunch(executable, stream));
      const float first = step % 2 == 0 ? 1 : 2;
      EXPECT_THAT(copy.numbers(), testing::ElementsAre(first, 3 - first));
    }
    CUDA_CHECK(cudaGraphExecDestroy(executable));
    CUDA_CHECK(cudaGraphDestroy(graph));
  });
}

TEST(CudaWatch, looks_whenever_the_host_waits_until_it_is_told_not_to) {
  Device device = Device::cuda(0);
  Cuda& cuda = std::get<Cuda>(device.backend());
  int looks = 0;
  const int counting = cuda.watch([&] { ++looks; });
  const int throwing = cuda.watch([] { throw Error(ErrorKind::io, {.what = "it is gone"}); });
  EXPECT_THAT([&] { device.synchronize(); }, ThrowsMessage<Error>(HasSubstr("it is gone")));
  EXPECT_EQ(looks, 1);
  cuda.unwatch(throwing);
  device.synchronize();
  EXPECT_EQ(looks, 2);
  cuda.unwatch(counting);
  device.synchronize();
  EXPECT_EQ(looks, 2);
}

}  // namespace
}  // namespace longscan::test

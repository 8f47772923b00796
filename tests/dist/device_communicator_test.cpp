// Ranks with a GPU each: the exchanges between them, and what becomes of ranks when NCCL or one of
// them fails.
#include "dist/device_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "tests/support/device_suite.h"
#include "tests/support/ranks.h"

namespace longscan::test {
namespace {

std::vector<DeviceRanks> thread_ranks() {
  std::vector<DeviceRanks> all;
  for (const Carrier carrier : carriers_of_threads()) {
    for (const int count : kRankCounts) {
      all.push_back({name_of(carrier) + "_" + std::to_string(count),
                     [=](const auto& body) { run_device_ranks(count, carrier, body); }});
    }
  }
  return all;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceRanksTest);  // without a GPU
INSTANTIATE_TEST_SUITE_P(Threads, DeviceRanksTest, testing::ValuesIn(thread_ranks()),
                         [](const auto& test) { return test.param.name; });

// Whose error is the first depends on how fast the others learn of it.
TEST_P(DeviceRanksTest, learn_of_a_rank_that_fails) {
  std::atomic<int> others = 0;
  std::atomic<int> learnt = 0;
  const auto one_fails = [&](Communicator& group, Device& device) {
    const DeviceNumbers<float> mine(device, std::vector<float>(100, 1));
    const DeviceNumbers<float> all(device, std::vector<float>(100UL * group.size()));
    Communicator& between_gpus = group.for_device();
    if (group.rank() + 1 == group.size()) throw std::runtime_error("the last rank has no disk");
    ++others;
    try {
      between_gpus.all_gather(mine.data(), all.data(), 400);
      device.synchronize();
    } catch (const Error&) {
      ++learnt;
      throw;
    }
  };
  EXPECT_THROW(on_ranks(one_fails), std::runtime_error);
  EXPECT_EQ(learnt, others);
}

TEST(DeviceCommunicator, says_how_to_do_without_nccl) {
  const auto take_nccl = [](Communicator& host) {
    Device device = Device::cpu(1);
    DeviceCommunicator(host, device, Carrier::nccl);
  };
  EXPECT_THAT([&] { run_ranks(1, take_nccl); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("--communicator=mpi")));
}

}  // namespace
}  // namespace longscan::test

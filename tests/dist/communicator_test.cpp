// The communicator of threads, and what becomes of ranks when one of them fails.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "dist/thread_communicator.h"
#include "kernels/error.h"
#include "tests/support/communicator_suite.h"
#include "tests/support/device_ranks.h"
#include "tests/support/ranks.h"

namespace longscan::test {
namespace {

std::vector<Ranks> thread_ranks() {
  std::vector<Ranks> all;
  for (const int count : kRankCounts) {
    all.push_back({"threads_" + std::to_string(count),
                   [count](const auto& body) { run_ranks(count, body); }});
  }
  return all;
}

// Threads with a device each, whose memory the data lie in.
std::vector<Ranks> device_ranks() {
  std::vector<Ranks> all;
  for (const Carrier carrier : carriers_of_threads()) {
    for (const int count : kRankCounts) {
      const auto run = [count, carrier](const auto& body) {
        run_device_ranks(count, carrier, [&](Communicator& group, Device& device) {
          ThroughDevice through(group, device);
          body(through);
        });
      };
      all.push_back({.name = name_of(carrier) + "_" + std::to_string(count),
                     .run = run,
                     .sums_in_rank_order = carrier != Carrier::nccl});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Devices, CommunicatorTest, testing::ValuesIn(device_ranks()),
                         [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(Threads, CommunicatorTest, testing::ValuesIn(thread_ranks()),
                         [](const auto& test) { return test.param.name; });

TEST(RunRanks, gives_every_rank_its_number) {
  std::atomic<int> sum = 0;
  run_ranks(8, [&](Communicator& world) {
    EXPECT_EQ(world.size(), 8);
    sum += 1 << world.rank();
  });
  EXPECT_EQ(sum, 255);
}

TEST(RunRanks, rethrows_the_first_error_and_lets_no_other_rank_hang) {
  std::atomic<int> stranded = 0;
  const auto one_fails = [&](Communicator& world) {
    const auto half = world.split(world.rank() / 2);
    world.barrier();
    if (world.rank() == 1) throw std::runtime_error("rank 1 has no disk");
    // Rank 0 waits in the half, the others in the whole.
    Communicator& waits = world.rank() == 0 ? *half : world;
    try {
      std::vector<int> all(4);
      waits.all_gather(&all[0], all.data(), sizeof(int));
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("another rank has failed"));
      ++stranded;
      throw;
    }
  };
  EXPECT_THAT([&] { run_ranks(4, one_fails); },
              testing::ThrowsMessage<std::runtime_error>("rank 1 has no disk"));
  EXPECT_EQ(stranded, 3);
}

TEST(RunRanks, notices_a_rank_that_returns_while_others_wait) {
  const auto one_returns = [](Communicator& world) {
    if (world.rank() != 2) world.barrier();
  };
  EXPECT_THAT([&] { run_ranks(3, one_returns); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("rank 2 has returned")));
}

TEST(RunRanks, a_gather_given_up_by_a_failing_rank_harms_nobody) {
  const auto one_gives_up = [](Communicator& world) {
    std::vector<double> mine(1000, world.rank());
    std::vector<double> all(4000);
    const auto pending = world.start_all_gather(mine.data(), all.data(), 8000);
    if (world.rank() == 3) throw Error(ErrorKind::data, {.what = "bad token"});
    pending->wait();
    EXPECT_EQ(all[3999], 3);
    world.barrier();
  };
  EXPECT_THAT([&] { run_ranks(4, one_gives_up); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("bad token")));
}

TEST(RunRanks, notices_ranks_that_call_with_different_sizes) {
  const auto uneven = [](Communicator& world) {
    std::vector<std::byte> bytes(100);
    world.all_gather(bytes.data(), bytes.data() + 10, world.rank() == 0 ? 4 : 8);
  };
  EXPECT_THAT([&] { run_ranks(2, uneven); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("bytes to a collective")));
}

}  // namespace
}  // namespace longscan::test

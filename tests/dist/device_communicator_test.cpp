// Ranks with a GPU each: the exchanges between them, and what becomes of ranks when NCCL or one of
// them fails.
#include "dist/device_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "dist/gradient_sum.h"
#include "kernels/elementwise.h"
#include "kernels/error.h"
#include "tests/support/block_exchange_case.h"
#include "tests/support/device_ranks.h"
#include "tests/support/exchange_case.h"
#include "tests/support/on_cuda.h"

namespace longscan::test {
namespace {

class DeviceRanksTest : public testing::TestWithParam<std::tuple<Carrier, int>> {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << find_cuda_devices().why_none;
    if (carrier() == Carrier::nccl && !has_nccl()) GTEST_SKIP() << "this build has no NCCL";
  }
  static Carrier carrier() { return std::get<0>(GetParam()); }
  static void on_ranks(const std::function<void(Communicator&, Device&)>& body) {
    run_device_ranks(std::get<1>(GetParam()), carrier(), body);
  }
};

INSTANTIATE_TEST_SUITE_P(Ranks, DeviceRanksTest,
                         testing::Combine(testing::Values(Carrier::host, Carrier::nccl),
                                          testing::ValuesIn(kRankCounts)),
                         [](const auto& test) {
                           const bool nccl = std::get<0>(test.param) == Carrier::nccl;
                           return (nccl ? "nccl_" : "host_") +
                                  std::to_string(std::get<1>(test.param));
                         });

TEST_P(DeviceRanksTest, exchange_states) {
  on_ranks([](Communicator& group, Device& device) {
    for (unsigned seed = 0; seed < 10; ++seed) {
      for (const Direction direction : {Direction::forward, Direction::backward}) {
        expect_exchange_is_exact<float>(group, device, seed, 3, direction, 1e-6 * 60 * kCount);
      }
    }
  });
}

TEST_P(DeviceRanksTest, exchange_shards) {
  on_ranks([](Communicator& group, Device& device) {
    BlockExchange exchange(group, device);
    for (unsigned seed = 0; seed < 20; ++seed) expect_blocks_meet(group, device, exchange, seed);
  });
}

TEST_P(DeviceRanksTest, sum_their_gradients) {
  on_ranks([](Communicator& group, Device& device) {
    const DeviceNumbers<float> gradient(device, std::vector<float>(1000, 1 + group.rank()));
    std::vector<double> totals{1, 10.0 * group.rank()};
    sum_gradient(group, gradient.tensor(), totals);
    const int ranks = group.size();
    EXPECT_THAT(gradient.numbers(), testing::Each(ranks * (ranks + 1) / 2));
    EXPECT_THAT(totals, testing::ElementsAre(ranks, 5.0 * ranks * (ranks - 1)));
  });
}

// What a collective sends was computed just before, and what it brings is used at once.
TEST_P(DeviceRanksTest, keep_the_order_of_operations_and_collectives) {
  on_ranks([](Communicator& group, Device& device) {
    const int ranks = group.size();
    const DeviceNumbers<float> mine(device, {0});
    const DeviceNumbers<float> all(device, std::vector<float>(static_cast<std::size_t>(ranks)));
    const DeviceNumbers<float> copy(device, std::vector<float>(static_cast<std::size_t>(ranks)));
    for (int round = 1; round <= 3; ++round) {
      device.run(Fill{.out = mine.tensor(), .value = 10.0 * round + group.rank()});
      group.for_device().all_gather(mine.data(), all.data(), sizeof(float));
      device.run(Copy{.out = copy.tensor(), .in = all.tensor()});
      device.run(Fill{.out = all.tensor(), .value = -1});
      for (int rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(copy.numbers()[static_cast<std::size_t>(rank)], 10.0F * round + rank);
      }
    }
  });
}

TEST_P(DeviceRanksTest, learn_of_a_rank_that_fails) {
  const auto one_fails = [](Communicator& group, Device& device) {
    const DeviceNumbers<float> mine(device, std::vector<float>(100, 1));
    const DeviceNumbers<float> all(device, std::vector<float>(100UL * group.size()));
    group.for_device().all_gather(mine.data(), all.data(), 400);
    if (group.rank() + 1 == group.size()) throw std::runtime_error("the last rank has no disk");
    group.for_device().all_gather(mine.data(), all.data(), 400);
    device.synchronize();
    ADD_FAILURE() << "rank " << group.rank() << " has not noticed";
  };
  EXPECT_THAT([&] { on_ranks(one_fails); },
              testing::ThrowsMessage<std::runtime_error>("the last rank has no disk"));
}

TEST(DeviceCommunicator, names_what_a_build_without_nccl_lacks) {
  if (has_nccl()) GTEST_SKIP() << "this build has NCCL";
  const auto take_nccl = [](Communicator& host) {
    Device device = Device::cpu(1);
    DeviceCommunicator(host, device, Carrier::nccl);
  };
  EXPECT_THAT([&] { run_ranks(1, take_nccl); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("--communicator=mpi")));
}

}  // namespace
}  // namespace longscan::test

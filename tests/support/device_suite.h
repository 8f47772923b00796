// What ranks with a GPU each do together, whatever carries their data; a test program includes this
// and instantiates DeviceRanksTest with its ways to run ranks.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "dist/gradient_sum.h"
#include "kernels/elementwise.h"
#include "tests/support/block_exchange_case.h"
#include "tests/support/device_ranks.h"
#include "tests/support/exchange_case.h"

namespace longscan::test {

/// Runs a body on ranks of one kind.
struct DeviceRanks {
  std::string name;  ///< "nccl_3"
  std::function<void(const std::function<void(Communicator&, Device&)>&)> run;
};

inline void PrintTo(const DeviceRanks& ranks, std::ostream* out) {
  *out << ranks.name;
}

/// Ranks may not leave a body early: the others would wait. So EXPECT, never ASSERT.
class DeviceRanksTest : public testing::TestWithParam<DeviceRanks> {
 protected:
  void on_ranks(const std::function<void(Communicator&, Device&)>& body) const {
    GetParam().run(body);
  }
};

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
    const DeviceNumbers<double> totals(device, {1, 10.0 * group.rank()});
    sum_gradient(group, gradient.tensor(), totals.tensor());
    const int ranks = group.size();
    EXPECT_THAT(gradient.numbers(), testing::Each(ranks * (ranks + 1) / 2));
    EXPECT_THAT(totals.numbers(), testing::ElementsAre(ranks, 5.0 * ranks * (ranks - 1)));
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

}  // namespace longscan::test

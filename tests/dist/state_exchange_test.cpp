// The state exchange against the definition: what a token is left by the others of its document.
#include "dist/state_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dist/thread_communicator.h"
#include "kernels/error.h"
#include "tests/support/exchange_case.h"

namespace longscan::test {
namespace {

class ExchangeTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ExchangeTest, testing::ValuesIn(kRankCounts));

TEST_P(ExchangeTest, a_prefix_is_what_comes_before_in_the_document) {
  run_ranks(GetParam(), [](Communicator& group) {
    for (unsigned seed = 0; seed < 100; ++seed) {
      expect_exchange_is_exact<double>(group, seed, 1 + static_cast<int>(seed % 5),
                                       Direction::forward, 1e-12 * kCount);
    }
  });
}

TEST_P(ExchangeTest, a_suffix_is_what_comes_behind_in_the_document) {
  run_ranks(GetParam(), [](Communicator& group) {
    for (unsigned seed = 0; seed < 100; ++seed) {
      expect_exchange_is_exact<double>(group, seed, 1 + static_cast<int>(seed % 5),
                                       Direction::backward, 1e-12 * kCount);
    }
  });
}

TEST_P(ExchangeTest, is_exact_in_single_precision_too) {
  run_ranks(GetParam(), [](Communicator& group) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      for (const Direction direction : {Direction::forward, Direction::backward}) {
        expect_exchange_is_exact<float>(group, seed, 3, direction, 1e-6 * 60 * kCount);
      }
    }
  });
}

TEST_P(ExchangeTest, the_carry_has_the_same_bits_on_every_rank) {
  run_ranks(GetParam(), [](Communicator& group) {
    Device device = Device::cpu(1);
    StateExchange exchange(group, device);
    const SegmentBorders borders(
        std::vector<ShardBorders>(static_cast<std::size_t>(group.size()), {.tokens = 1}), true,
        true);
    for (const Direction direction : {Direction::forward, Direction::backward}) {
      std::vector<float> sum(kCount, 1.0F / static_cast<float>(3 + group.rank()));
      std::vector<float> carry(kCount, 0.1F);
      std::vector<float> state(kCount);
      exchange.start(direction, borders, state_tensor(sum));
      exchange.finish(state_tensor(state), state_tensor(carry), state_tensor(carry));
      std::vector<float> all(kCount * static_cast<std::size_t>(group.size()));
      group.all_gather(carry.data(), all.data(), kCount * 4);
      EXPECT_THAT(all, testing::Each(carry[0]));
      EXPECT_NE(carry[0], 0.1F);
    }
  });
}

// What a rank hands over when a line of `tokens` tokens is one document.
std::int64_t bytes_of_one_document(Communicator& group, std::int64_t tokens) {
  const std::int64_t begin = tokens * group.rank() / group.size();
  const std::int64_t end = tokens * (group.rank() + 1) / group.size();
  const std::vector<std::int64_t> starts(group.rank() == 0 ? 1 : 0);
  const std::vector<ShardBorders> mine = {borders_of_shard(end - begin, starts)};
  const SegmentBorders borders = gather_borders(group, mine).front();
  Device device = Device::cpu(1);
  StateExchange exchange(group, device);
  std::vector<float> sum(kCount, 1);
  std::vector<float> state(kCount);
  const std::int64_t bytes_before = group.traffic().bytes;
  exchange.start(Direction::forward, borders, state_tensor(sum));
  exchange.finish(state_tensor(state), {}, {});
  EXPECT_FLOAT_EQ(state[0], static_cast<float>(group.rank()));
  return group.traffic().bytes - bytes_before;
}

TEST_P(ExchangeTest, the_bytes_do_not_depend_on_the_length) {
  run_ranks(GetParam(), [](Communicator& group) {
    const std::int64_t expected = group.size() == 1 ? 0 : kCount * std::int64_t{sizeof(float)};
    EXPECT_EQ(bytes_of_one_document(group, 4096), expected);
    EXPECT_EQ(bytes_of_one_document(group, 1'048'576), expected);
  });
}

TEST(StateExchange, sends_nothing_where_no_document_crosses_a_cut) {
  run_ranks(4, [](Communicator& group) {
    // Rank 2 has no tokens; every other shard begins with a document.
    const std::vector<std::int64_t> starts = {0, 7};
    const ShardBorders mine =
        group.rank() == 2 ? borders_of_shard(0, {}) : borders_of_shard(20, starts);
    const std::vector<SegmentBorders> line = gather_borders(group, {{mine, mine}});
    const Traffic before = group.traffic();
    EXPECT_EQ(before.bytes, 2 * 8);  // the borders: a number a segment
    Device device = Device::cpu(1);
    StateExchange exchange(group, device);
    std::vector<double> state(kCount, 5);
    for (const SegmentBorders& borders : line) {
      for (const Direction direction : {Direction::forward, Direction::backward}) {
        EXPECT_FALSE(borders.exchanges(direction));
        exchange.start(direction, borders, {});
        exchange.finish(state_tensor(state), {}, {});
        EXPECT_THAT(state, testing::Each(0.0));
      }
    }
    EXPECT_EQ(group.traffic().calls, before.calls);
  });
}

TEST(StateExchange, asks_for_the_sum_it_must_send) {
  const SegmentBorders borders({{.tokens = 1}}, false, true);
  const auto without_sum = [&](Communicator& group) {
    Device device = Device::cpu(1);
    StateExchange(group, device).start(Direction::forward, borders, {});
  };
  EXPECT_THAT([&] { run_ranks(1, without_sum); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("StateExchange.sum")));
  EXPECT_THAT([&] { run_ranks(2, without_sum); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("StateExchange.borders")));
}

TEST(SegmentBorders, follow_the_drawing_in_the_header) {
  // . . . .   . . | .   . . . .   . | . .
  const ShardBorders whole = {.tokens = 1};
  const ShardBorders cut = {.tokens = 1, .has_start = true};
  const SegmentBorders borders({whole, cut, whole, cut}, true, true);
  const auto range = [&](int rank, Direction direction) {
    const StateRange needed = borders.needed_by(rank, direction);
    return std::vector<int>{needed.begin, needed.end, needed.carry};
  };
  EXPECT_EQ(range(0, Direction::forward), (std::vector<int>{0, 0, 1}));
  EXPECT_EQ(range(1, Direction::forward), (std::vector<int>{0, 1, 1}));
  EXPECT_EQ(range(2, Direction::forward), (std::vector<int>{1, 2, 0}));
  EXPECT_EQ(range(3, Direction::forward), (std::vector<int>{1, 3, 0}));
  EXPECT_EQ(range(0, Direction::backward), (std::vector<int>{1, 2, 0}));
  EXPECT_EQ(range(1, Direction::backward), (std::vector<int>{2, 4, 0}));
  EXPECT_EQ(range(2, Direction::backward), (std::vector<int>{3, 4, 0}));
  EXPECT_EQ(range(3, Direction::backward), (std::vector<int>{4, 4, 1}));
  EXPECT_EQ(borders.carried_on(Direction::forward).begin, 3);
  EXPECT_EQ(borders.carried_on(Direction::backward).end, 2);
}

}  // namespace
}  // namespace longscan::test

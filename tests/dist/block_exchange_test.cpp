// The exchange of shards against its definition, and what it sends.
#include "dist/block_exchange.h"

#include <gtest/gtest.h>

#include "dist/thread_communicator.h"
#include "tests/support/block_exchange_case.h"

namespace longscan::test {
namespace {

class BlockExchangeTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, BlockExchangeTest, testing::ValuesIn(kRankCounts));

TEST_P(BlockExchangeTest, every_token_meets_the_others_of_its_document) {
  run_ranks(GetParam(), [](Communicator& group) {
    Device device = Device::cpu(1);
    BlockExchange exchange(group, device);
    for (unsigned seed = 0; seed < 200; ++seed) expect_blocks_meet(group, device, exchange, seed);
  });
}

// Four ranks of 10 tokens, rank 2 of none.
SegmentBorders borders_of(Communicator& group, std::vector<std::int64_t> starts) {
  const ShardBorders mine = borders_of_shard(group.rank() == 2 ? 0 : 10, starts);
  return gather_borders(group, {&mine, 1}).front();
}

std::int64_t bytes_of_pass(Communicator& group, const SegmentBorders& borders) {
  Device device = Device::cpu(1);
  BlockExchange exchange(group, device);
  std::vector<double> numbers(64, group.rank());
  const std::int64_t tokens = borders.tokens_of(group.rank());
  const BlockStream stream{.mine = {Tensor::dense(numbers.data(), DType::f64, {tokens, 4})},
                           .body = [](const VisitingBlock&) {}};
  const std::int64_t before = group.traffic().bytes;
  exchange.pass(borders, {&stream, 1}, [] {});
  return group.traffic().bytes - before;
}

TEST(BlockExchange, sends_nothing_where_no_document_crosses_a_cut) {
  run_ranks(4, [](Communicator& group) {
    const SegmentBorders borders = borders_of(
        group, group.rank() == 2 ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{0, 5});
    const std::int64_t calls = group.traffic().calls;
    EXPECT_EQ(bytes_of_pass(group, borders), 0);
    EXPECT_EQ(group.traffic().calls, calls);
  });
}

TEST(BlockExchange, sends_shards_as_far_as_their_documents_reach) {
  run_ranks(4, [](Communicator& group) {
    // Documents: ranks 0 and the beginning of 1; the rest of 1 and the beginning of 3.
    const std::vector<std::int64_t> starts[] = {{0}, {4}, {}, {3}};
    const SegmentBorders borders =
        borders_of(group, starts[static_cast<std::size_t>(group.rank())]);
    EXPECT_EQ(borders.reach_of(0, Direction::forward), 1);
    EXPECT_EQ(borders.reach_of(1, Direction::forward), 3);
    EXPECT_EQ(borders.reach_of(2, Direction::forward), 2);
    EXPECT_EQ(borders.reach_of(3, Direction::backward), 1);
    EXPECT_EQ(borders.reach_of(1, Direction::backward), 0);
    // Rank 2 passes on what rank 1 sent it; 10 tokens of four numbers.
    const std::int64_t expected[] = {320, 320, 320, 0};
    EXPECT_EQ(bytes_of_pass(group, borders), expected[static_cast<std::size_t>(group.rank())]);
  });
}

}  // namespace
}  // namespace longscan::test

// A random line whose tokens know their place and document, to hold the exchange of shards against
// its definition: every token of a document meets all others of it that lie in the right direction.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "dist/block_exchange.h"
#include "tests/support/device_numbers.h"
#include "tests/support/ranks.h"

namespace longscan::test {

/// The same on every rank.
struct BlockLine {
  std::vector<std::int64_t> document;  ///< of every token
  std::vector<std::int64_t> cuts;      ///< of the shards, one more than ranks

  BlockLine(unsigned seed, int ranks) {
    std::mt19937 random(seed);
    const std::int64_t tokens = 1 + static_cast<std::int64_t>(random() % 60);
    const unsigned rarity = 1 + random() % 40;
    cuts = random_cuts(tokens, ranks, random);
    for (std::int64_t i = 0; i < tokens; ++i) {
      const bool starts = i == 0 || random() % rarity == 0;
      document.push_back(i == 0 ? 0 : document.back() + (starts ? 1 : 0));
    }
  }

  std::int64_t begin(int rank) const { return cuts[static_cast<std::size_t>(rank)]; }
  std::int64_t end(int rank) const { return cuts[static_cast<std::size_t>(rank) + 1]; }

  ShardBorders borders(int rank) const {
    std::vector<std::int64_t> starts;
    for (std::int64_t i = begin(rank); i < end(rank); ++i) {
      const auto index = static_cast<std::size_t>(i);
      if (i == 0 || document[index] != document[index - 1]) starts.push_back(i - begin(rank));
    }
    return borders_of_shard(end(rank) - begin(rank), starts);
  }

  /// Tokens of other shards, before this one (behind it for backward), that share a document with
  /// one of its tokens.
  std::vector<std::int64_t> needed(int rank, Direction direction) const {
    std::vector<std::int64_t> places;
    const bool before = direction == Direction::forward;
    for (std::int64_t i = before ? 0 : end(rank); i < (before ? begin(rank) : cuts.back()); ++i) {
      for (std::int64_t j = begin(rank); j < end(rank); ++j) {
        if (document[static_cast<std::size_t>(i)] != document[static_cast<std::size_t>(j)])
          continue;
        places.push_back(i);
        break;
      }
    }
    return places;
  }
};

/// What came by one rank in one direction.
struct Visits {
  std::vector<std::int64_t> places;
  std::vector<std::int64_t> expected;  ///< what the places must be by the offsets
  std::vector<double> rows;            ///< [tokens, 2]
  bool nearest_first = true;
  std::int64_t last_distance = 0;

  void take(Device& device, const VisitingBlock& block, std::int64_t first) {
    nearest_first = nearest_first && std::abs(block.offset) >= last_distance;
    last_distance = std::abs(block.offset);
    const auto came = on_host<std::int64_t>(device, block.tensors[0]);
    const auto numbers = on_host<double>(device, block.tensors[1]);
    for (std::int64_t i = 0; i < std::ssize(came); ++i)
      expected.push_back(first + block.offset + i);
    places.insert(places.end(), came.begin(), came.end());
    rows.insert(rows.end(), numbers.begin(), numbers.end());
  }
};

/// Collective: shards of both directions pass at once.
inline void expect_blocks_meet(Communicator& group, Device& device, BlockExchange& exchange,
                               unsigned seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", rank " << group.rank() << " of "
                                  << group.size());
  const BlockLine line(seed, group.size());
  const std::int64_t first = line.begin(group.rank());
  const std::int64_t tokens = line.end(group.rank()) - first;
  const ShardBorders my_borders = line.borders(group.rank());
  const SegmentBorders borders = gather_borders(group, {&my_borders, 1}).front();
  std::vector<std::int64_t> places(static_cast<std::size_t>(tokens));
  std::iota(places.begin(), places.end(), first);
  // Rows of two numbers, three apart.
  std::vector<double> numbers(static_cast<std::size_t>(3 * tokens));
  std::iota(numbers.begin(), numbers.end(), 3.0 * static_cast<double>(first));
  const DeviceNumbers<std::int64_t> my_places(device, places);
  const DeviceNumbers<double> my_numbers(device, numbers);
  const std::vector<Tensor> mine{my_places.tensor(),
                                 my_numbers.tensor().reshaped({tokens, 3}).columns(0, 2)};

  Visits visits[2];
  std::vector<BlockStream> streams;
  for (const Direction direction : {Direction::forward, Direction::backward}) {
    Visits& mine_of = visits[direction == Direction::forward ? 0 : 1];
    streams.push_back(
        {.direction = direction, .mine = mine, .body = [&](const VisitingBlock& block) {
           mine_of.take(device, block, first);
         }});
  }
  int meanwhile = 0;
  exchange.pass(borders, streams, [&] { ++meanwhile; });
  EXPECT_EQ(meanwhile, 1);
  for (const Direction direction : {Direction::forward, Direction::backward}) {
    Visits& came = visits[direction == Direction::forward ? 0 : 1];
    EXPECT_EQ(came.places, came.expected);
    EXPECT_TRUE(came.nearest_first);
    for (std::size_t i = 0; i < came.places.size(); ++i) {
      EXPECT_EQ(came.rows[2 * i], 3.0 * static_cast<double>(came.places[i]));
      EXPECT_EQ(came.rows[2 * i + 1], 3.0 * static_cast<double>(came.places[i]) + 1);
    }
    std::sort(came.places.begin(), came.places.end());
    EXPECT_EQ(std::adjacent_find(came.places.begin(), came.places.end()), came.places.end());
    EXPECT_THAT(came.places, testing::IsSupersetOf(line.needed(group.rank(), direction)));
  }
}

}  // namespace longscan::test

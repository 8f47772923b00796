// What every communicator must do, whatever carries it; a test program includes this and
// instantiates CommunicatorTest with its ways to run ranks.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include "dist/communicator.h"

namespace longscan::test {

/// Runs a body on ranks of one kind.
struct Ranks {
  std::string name;  ///< "threads_3"
  std::function<void(const std::function<void(Communicator&)>&)> run;
  bool sums_in_rank_order = true;  ///< else in one that is the same on every rank
};

inline void PrintTo(const Ranks& ranks, std::ostream* out) {
  *out << ranks.name;
}

/// Ranks may not leave a body early: the others would wait. So EXPECT, never ASSERT.
class CommunicatorTest : public testing::TestWithParam<Ranks> {
 protected:
  void on_ranks(const std::function<void(Communicator&)>& body) const { GetParam().run(body); }
};

/// element * ranks + rank: no two ranks and no two elements have the same value.
template <class T>
std::vector<T> values_of(const Communicator& group, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    values[static_cast<std::size_t>(i)] = static_cast<T>(i * group.size() + group.rank());
  }
  return values;
}

/// The exact sum of these values over the ranks.
template <class T>
std::vector<T> sums_of(const Communicator& group, std::int64_t count) {
  std::vector<T> sums(static_cast<std::size_t>(count));
  const std::int64_t ranks = group.size();
  for (std::int64_t i = 0; i < count; ++i) {
    sums[static_cast<std::size_t>(i)] = static_cast<T>(i * ranks * ranks + ranks * (ranks - 1) / 2);
  }
  return sums;
}

inline void expect_gathered(const std::vector<std::int64_t>& all, int ranks, std::int64_t count) {
  for (int rank = 0; rank < ranks; ++rank) {
    for (std::int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(all[static_cast<std::size_t>(rank * count + i)], i * ranks + rank);
    }
  }
}

template <class T>
void expect_sums(Communicator& group, std::int64_t count) {
  std::vector<T> values = values_of<T>(group, count);
  group.all_reduce_sum(Tensor::dense(values.data(), DTypeOf<T>::value, {count}));
  EXPECT_EQ(values, sums_of<T>(group, count)) << count << " elements";
}

TEST_P(CommunicatorTest, gathers_in_the_order_of_ranks) {
  on_ranks([](Communicator& group) {
    for (const std::int64_t count : {0, 1, 33, 597, 70'000}) {
      const auto mine = values_of<std::int64_t>(group, count);
      std::vector<std::int64_t> all(static_cast<std::size_t>(count * group.size()), -1);
      group.all_gather(mine.data(), all.data(), count * 8);
      expect_gathered(all, group.size(), count);
    }
  });
}

TEST_P(CommunicatorTest, gathers_while_other_collectives_go_on) {
  on_ranks([](Communicator& group) {
    const auto first = values_of<std::int64_t>(group, 5000);
    const auto second = values_of<std::int64_t>(group, 7);
    std::vector<std::int64_t> all_first(static_cast<std::size_t>(5000 * group.size()));
    std::vector<std::int64_t> all_second(static_cast<std::size_t>(7 * group.size()));
    auto pending_first = group.start_all_gather(first.data(), all_first.data(), 5000 * 8);
    auto pending_second = group.start_all_gather(second.data(), all_second.data(), 7 * 8);
    expect_sums<double>(group, 43);
    group.barrier();
    pending_second->wait();
    pending_first->wait();
    expect_gathered(all_first, group.size(), 5000);
    expect_gathered(all_second, group.size(), 7);
  });
}

TEST_P(CommunicatorTest, sums_every_type_at_sizes_small_odd_and_large) {
  on_ranks([](Communicator& group) {
    for (const std::int64_t count : {0, 1, 3, 43, 597, 4096, 70'001}) {
      // Whole numbers below 2^24 are exact in f32 in any order.
      if (count < 70'001) expect_sums<float>(group, count);
      expect_sums<double>(group, count);
      expect_sums<std::int64_t>(group, count);
    }
    expect_sums<std::int64_t>(group, 1'500'000);  // more than one piece
  });
}

/// Collective. The same numbers on every rank, and those expected up to rounding.
inline void expect_same_bits(Communicator& group, const std::vector<float>& values,
                             const std::vector<float>& expected) {
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-6);
  std::vector<float> first = values;
  group.broadcast(first.data(), std::ssize(first) * std::int64_t{sizeof(float)}, 0);
  EXPECT_EQ(values, first);
}

TEST_P(CommunicatorTest, sums_in_one_order_to_the_bit) {
  const bool in_rank_order = GetParam().sums_in_rank_order;
  on_ranks([in_rank_order](Communicator& group) {
    for (const std::int64_t count : {5, 3001}) {
      const auto value = [](int rank, std::int64_t i) {
        return (rank % 2 == 0 ? 1.0F : -1.0F) / static_cast<float>(1 + 7 * rank + 3 * i);
      };
      std::vector<float> values;
      std::vector<float> expected;
      for (std::int64_t i = 0; i < count; ++i) {
        values.push_back(value(group.rank(), i));
        float sum = value(0, i);
        for (int rank = 1; rank < group.size(); ++rank) sum += value(rank, i);
        expected.push_back(sum);
      }
      group.all_reduce_sum(Tensor::dense(values.data(), DType::f32, {count}));
      if (in_rank_order) {
        EXPECT_EQ(values, expected);
      } else {
        expect_same_bits(group, values, expected);
      }
    }
  });
}

TEST_P(CommunicatorTest, broadcasts_from_every_rank) {
  on_ranks([](Communicator& group) {
    for (int root = 0; root < group.size(); ++root) {
      for (const std::int64_t count : {0, 1, 4099}) {
        auto values = values_of<std::int64_t>(group, count);
        group.broadcast(values.data(), count * 8, root);
        for (std::int64_t i = 0; i < count; ++i) {
          EXPECT_EQ(values[static_cast<std::size_t>(i)], i * group.size() + root);
        }
      }
    }
  });
}

/// values_of a rank of the group: what that rank sends.
inline std::vector<std::int64_t> values_of_rank(const Communicator& group, int rank,
                                                std::int64_t count) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    values[static_cast<std::size_t>(i)] = i * group.size() + rank;
  }
  return values;
}

TEST_P(CommunicatorTest, shifts_to_the_neighbour_on_either_side_and_not_beyond_the_ends) {
  on_ranks([](Communicator& group) {
    const int rank = group.rank();
    // Every rank sends another number of values; rank 1 none.
    const auto count_of = [](int sender) { return std::int64_t{sender == 1 ? 0 : 33 + sender}; };
    const auto mine = values_of<std::int64_t>(group, count_of(rank));
    const std::int64_t bytes = count_of(rank) * 8;
    std::vector<std::int64_t> before(100, -1);
    std::vector<std::int64_t> behind(100, -1);
    // Both at once, and another collective between them.
    auto up = group.start_shift(mine.data(), bytes, before.data(), count_of(rank - 1) * 8, false);
    auto down = group.start_shift(mine.data(), bytes, behind.data(), count_of(rank + 1) * 8, true);
    group.barrier();
    down->wait();
    up->wait();
    const auto expect_values = [&](std::vector<std::int64_t> actual, int sender) {
      const bool there = sender >= 0 && sender < group.size();
      std::vector<std::int64_t> expected =
          values_of_rank(group, sender, there ? count_of(sender) : 0);
      expected.resize(actual.size(), -1);
      EXPECT_EQ(actual, expected) << "from " << sender;
    };
    expect_values(before, rank - 1);
    expect_values(behind, rank + 1);
  });
}

TEST_P(CommunicatorTest, splits_into_groups_that_work_on_their_own) {
  on_ranks([](Communicator& group) {
    const int color = group.rank() % 2;
    const auto part = group.split(color);
    EXPECT_EQ(part->size(), (group.size() + 1 - color) / 2);
    EXPECT_EQ(part->rank(), group.rank() / 2);
    const int mine = group.rank();
    std::vector<int> all(static_cast<std::size_t>(part->size()));
    part->all_gather(&mine, all.data(), sizeof(mine));
    for (int rank = 0; rank < part->size(); ++rank) {
      EXPECT_EQ(all[static_cast<std::size_t>(rank)], 2 * rank + color);
    }
    expect_sums<double>(*part, 100);

    const auto alone = part->split(part->rank());
    EXPECT_EQ(alone->size(), 1);
    expect_sums<double>(*alone, 9);
    // A later split with the same colours is another group.
    const auto again = group.split(color);
    EXPECT_EQ(again->size(), part->size());
    expect_sums<std::int64_t>(*again, 4);
    expect_sums<double>(group, 10);
  });
}

TEST_P(CommunicatorTest, counts_what_a_rank_hands_over) {
  on_ranks([](Communicator& group) {
    EXPECT_EQ(group.traffic().bytes, 0);
    EXPECT_EQ(group.traffic().calls, 0);
    const auto mine = values_of<std::int64_t>(group, 100);
    std::vector<std::int64_t> all(static_cast<std::size_t>(100 * group.size()));
    group.all_gather(mine.data(), all.data(), 800);
    EXPECT_EQ(group.traffic().bytes, 800);
    expect_sums<float>(group, 50);
    EXPECT_EQ(group.traffic().bytes, 1000);
    group.broadcast(all.data(), 16, 0);
    EXPECT_EQ(group.traffic().bytes, 1000 + (group.rank() == 0 ? 16 : 0));
    group.barrier();
    EXPECT_EQ(group.traffic().calls, 4);
    const std::int64_t before = group.traffic().bytes;
    group.start_shift(mine.data(), 24, all.data(), 24, false)->wait();
    EXPECT_EQ(group.traffic().bytes, before + (group.rank() + 1 < group.size() ? 24 : 0));
    EXPECT_EQ(group.traffic().calls, 5);
    EXPECT_GT(group.traffic().seconds, 0);
  });
}

}  // namespace longscan::test

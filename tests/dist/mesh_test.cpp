// The process mesh, and sums over it.
#include "dist/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dist/gradient_sum.h"
#include "dist/thread_communicator.h"
#include "kernels/error.h"

namespace longscan::test {
namespace {

std::vector<int> ranks_of(Communicator& group, int mine) {
  std::vector<int> all(static_cast<std::size_t>(group.size()));
  group.all_gather(&mine, all.data(), sizeof(mine));
  return all;
}

TEST(Mesh, sequence_groups_are_neighbours_and_data_groups_hold_the_same_place) {
  run_ranks(6, [](Communicator& world) {
    const Mesh mesh(world, 2);
    const int rank = world.rank();
    EXPECT_EQ(&mesh.world(), &world);
    EXPECT_EQ(mesh.sequence_size(), 2);
    EXPECT_EQ(mesh.data_size(), 3);
    EXPECT_EQ(mesh.sequence_index(), rank % 2);
    EXPECT_EQ(mesh.data_index(), rank / 2);
    EXPECT_THAT(ranks_of(mesh.sequence(), rank),
                testing::ElementsAre(rank / 2 * 2, rank / 2 * 2 + 1));
    EXPECT_THAT(ranks_of(mesh.data(), rank),
                testing::ElementsAre(rank % 2, rank % 2 + 2, rank % 2 + 4));
  });
}

TEST(Mesh, zero_takes_all_ranks_for_one_line_and_one_takes_a_line_each) {
  run_ranks(3, [](Communicator& world) {
    EXPECT_EQ(Mesh(world, 0).sequence_size(), 3);
    EXPECT_EQ(Mesh(world, 3).data_size(), 1);
    EXPECT_EQ(Mesh(world, 1).data_index(), world.rank());
  });
}

TEST(Mesh, says_which_group_sizes_would_fit) {
  for (const int sequence : {4, 12, -1}) {
    const auto make = [&](Communicator& world) { const Mesh mesh(world, sequence); };
    EXPECT_THAT([&] { run_ranks(6, make); },
                testing::ThrowsMessage<Error>(
                    testing::AllOf(testing::HasSubstr(fmt::format("groups of {}", sequence)),
                                   testing::HasSubstr("from 1, 2, 3, 6, or 0 for all"))));
  }
}

TEST(GradientSum, sums_gradient_and_totals_and_counts_their_bytes) {
  run_ranks(4, [](Communicator& world) {
    const std::int64_t count = 2'500'000;  // more than one piece
    std::vector<float> gradient(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      gradient[static_cast<std::size_t>(i)] = static_cast<float>(i % 1000 + world.rank());
    }
    std::vector<double> totals = {0.5, 1.0 * world.rank(), 100};
    sum_gradient(world, Tensor::dense(gradient.data(), DType::f32, {count}),
                 Tensor::dense(totals.data(), DType::f64, {std::ssize(totals)}));
    EXPECT_THAT(totals, testing::ElementsAre(2, 6, 400));
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      wrong += gradient[static_cast<std::size_t>(i)] != static_cast<float>(4 * (i % 1000) + 6);
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(world.traffic().bytes, count * 4 + 3 * 8);
  });
}

TEST(GradientSum, takes_only_floating_point_gradients) {
  const auto sum_integers = [](Communicator& world) {
    std::int64_t gradient = 1;
    sum_gradient(world, Tensor::dense(&gradient, DType::i64, {1}), {});
  };
  EXPECT_THAT([&] { run_ranks(2, sum_integers); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("f32 or f64")));
}

}  // namespace
}  // namespace longscan::test

// The communicator of MPI processes: the common suite, and what is MPI's own.
#include "tests/support/communicator_suite.h"

#include "dist/agreement.h"
#include "dist/mpi_check.h"
#include "dist/mpi_communicator.h"
#include "kernels/error.h"
#include "tests/support/block_exchange_case.h"
#include "tests/support/exchange_case.h"
#include "tests/support/mpi_main.h"

namespace longscan::test {
namespace {

Ranks mpi_ranks(const std::string& name, std::int64_t largest_count) {
  return {name, [largest_count](const auto& body) {
            MpiCommunicator world(MPI_COMM_WORLD, largest_count);
            body(world);
          }};
}

// With counts of at most 24 bytes nearly every message takes the way of those beyond 2^30.
INSTANTIATE_TEST_SUITE_P(Mpi, CommunicatorTest,
                         testing::Values(mpi_ranks("processes", MpiCommunicator::kLargestCount),
                                         mpi_ranks("large_messages", 24)),
                         [](const auto& test) { return test.param.name; });

TEST(MpiCommunicator, places_ranks_on_their_node) {
  MpiCommunicator world(MPI_COMM_WORLD);
  const NodePlace place = world.place_on_node();
  // The tests run on one machine.
  EXPECT_EQ(place.rank, world.rank());
  EXPECT_EQ(place.size, world.size());
}

TEST(MpiCommunicator, a_failed_call_is_an_error_with_its_text) {
  MpiCommunicator world(MPI_COMM_WORLD);
  int value = 0;
  EXPECT_THAT([&] { world.broadcast(&value, sizeof(value), world.size()); },
              testing::ThrowsMessage<Error>(testing::AllOf(testing::HasSubstr("MPI_Bcast(data"),
                                                           testing::HasSubstr("invalid root"))));
}

TEST(MpiCommunicator, carries_the_state_exchange) {
  MpiCommunicator world(MPI_COMM_WORLD);
  for (unsigned seed = 0; seed < 50; ++seed) {
    for (const Direction direction : {Direction::forward, Direction::backward}) {
      expect_exchange_is_exact<double>(world, seed, 3, direction, 1e-12 * kCount);
    }
  }
}

TEST(MpiCommunicator, carries_the_exchange_of_shards) {
  MpiCommunicator world(MPI_COMM_WORLD);
  Device device = Device::cpu(1);
  BlockExchange exchange(world, device);
  for (unsigned seed = 0; seed < 100; ++seed) expect_blocks_meet(world, device, exchange, seed);
}

TEST(MpiCommunicator, ranks_that_differ_are_named_on_every_rank) {
  MpiCommunicator world(MPI_COMM_WORLD);
  const int last = world.size() - 1;
  const std::vector<Claim> claims = {{"the data", "same"},
                                     {"the configuration", world.rank() == last ? "f00d" : "cafe"}};
  if (last == 0) {
    EXPECT_NO_THROW(require_agreement(world, claims));
    return;
  }
  EXPECT_THAT([&] { require_agreement(world, claims); },
              testing::ThrowsMessage<Error>(testing::HasSubstr(
                  fmt::format("rank {} differs in the configuration, rank {} has f00d, rank 0 has "
                              "cafe",
                              last, last))));
}

/// The last rank fails while the others wait for it, and is left to `abort` or to the environment's
/// end. Started by tests/dist/failing_rank_test.cpp.
int fail_on_last_rank(int argument_count, char** arguments, bool abort) {
  const MpiEnvironment environment(&argument_count, &arguments);
  MpiCommunicator world(MPI_COMM_WORLD);
  if (world.rank() + 1 == world.size()) {
    const Error error(ErrorKind::data, {.what = "this rank fails"});
    if (!abort) throw error;
    environment.abort(exit_code(error.kind()));
  }
  world.barrier();
  return 0;
}

}  // namespace
}  // namespace longscan::test

int main(int argument_count, char** arguments) {
  using namespace longscan;
  const std::string mode = argument_count > 1 ? arguments[1] : "";
  if (mode != "--fail-by-abort" && mode != "--fail-by-exception") {
    return test::run_mpi_tests(argument_count, arguments);
  }
  try {
    return test::fail_on_last_rank(argument_count, arguments, mode == "--fail-by-abort");
  } catch (const Error& error) {
    return exit_code(error.kind());
  }
}

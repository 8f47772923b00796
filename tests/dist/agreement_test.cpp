// Ranks that disagree or fail are named, and every rank learns of it.
#include "dist/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <stdexcept>

#include "dist/thread_communicator.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

/// Runs `body` on every rank, expects it to throw on every rank, and returns the message if all
/// ranks have the same, with the kind they have.
std::pair<std::string, ErrorKind> error_on_all(int ranks,
                                               const std::function<void(Communicator&)>& body) {
  std::vector<std::string> messages(static_cast<std::size_t>(ranks), "no error");
  std::vector<ErrorKind> kinds(static_cast<std::size_t>(ranks));
  run_ranks(ranks, [&](Communicator& world) {
    const auto rank = static_cast<std::size_t>(world.rank());
    try {
      body(world);
    } catch (const Error& error) {
      messages[rank] = error.what();
      kinds[rank] = error.kind();
    }
  });
  EXPECT_THAT(messages, testing::Each(messages[0]));
  EXPECT_THAT(kinds, testing::Each(kinds[0]));
  return {messages[0], kinds[0]};
}

void compare(Communicator& world, const std::string& configuration,
             ErrorKind kind = ErrorKind::usage) {
  const std::vector<Claim> claims = {{"the program", "0.1.0"},
                                     {"the configuration", configuration}};
  require_agreement(world, claims, kind);
}

TEST(Agreement, equal_claims_pass) {
  run_ranks(4, [](Communicator& world) { EXPECT_NO_THROW(compare(world, "cafe")); });
  run_ranks(1, [](Communicator& world) { EXPECT_NO_THROW(compare(world, "")); });
}

TEST(Agreement, names_the_rank_that_differs_even_if_it_is_the_first) {
  for (const int odd : {0, 1, 3}) {
    const auto [message, kind] = error_on_all(4, [&](Communicator& world) {
      compare(world, world.rank() == odd ? "f00d and more" : "cafe", ErrorKind::data);
    });
    EXPECT_THAT(message, AllOf(HasSubstr(fmt::format("rank {} differs in the configuration", odd)),
                               HasSubstr(fmt::format("rank {} has f00d and more", odd)),
                               HasSubstr(fmt::format("rank {} has cafe", odd == 0 ? 1 : 0)),
                               Not(HasSubstr("the program"))));
    EXPECT_EQ(kind, ErrorKind::data);
  }
}

TEST(Agreement, names_several_ranks_and_sides_with_rank_0_in_a_tie) {
  const auto [several, several_kind] = error_on_all(
      8, [](Communicator& world) { compare(world, world.rank() % 3 == 1 ? "a" : "b"); });
  EXPECT_THAT(several, HasSubstr("ranks 1, 4 and 7 differ in the configuration"));
  EXPECT_EQ(several_kind, ErrorKind::usage);
  const auto [tie, tie_kind] =
      error_on_all(2, [](Communicator& world) { compare(world, std::to_string(world.rank())); });
  EXPECT_THAT(tie, HasSubstr("rank 1 differs in the configuration, rank 1 has 1, rank 0 has 0"));
}

TEST(AnyRank, is_true_everywhere_if_it_is_true_anywhere) {
  for (int flagged = -1; flagged < 3; ++flagged) {
    run_ranks(3, [&](Communicator& world) {
      EXPECT_EQ(any_rank(world, world.rank() == flagged), flagged >= 0);
    });
  }
}

TEST(OnAllRanks, a_failure_of_one_rank_reaches_all_and_names_it) {
  const auto [message, kind] = error_on_all(4, [](Communicator& world) {
    on_all_ranks(world, [&] {
      if (world.rank() != 2) return;
      throw Error(ErrorKind::missing, {.what = "there is no such file", .where = "data.h5:1"});
    });
  });
  EXPECT_EQ(message, "data.h5:1: on rank 2: there is no such file");
  EXPECT_EQ(kind, ErrorKind::missing);
}

TEST(OnAllRanks, a_failure_of_all_ranks_is_told_once_as_it_is) {
  for (const int ranks : {1, 3}) {
    const auto [message, kind] = error_on_all(ranks, [](Communicator& world) {
      on_all_ranks(world, [] {
        throw Error(ErrorKind::data,
                    {.what = "a letter", .hint = "map it", .where = "a.fasta:3:7"});
      });
    });
    EXPECT_EQ(message, "a.fasta:3:7: a letter, map it");
    EXPECT_EQ(kind, ErrorKind::data);
  }
}

TEST(OnAllRanks, other_exceptions_count_as_internal_errors) {
  const auto [message, kind] = error_on_all(3, [](Communicator& world) {
    on_all_ranks(world, [&] {
      if (world.rank() > 0) throw std::runtime_error("odd");
    });
  });
  EXPECT_THAT(message, HasSubstr(": on ranks 1 and 2: odd"));
  EXPECT_EQ(kind, ErrorKind::internal);
}

TEST(OnAllRanks, runs_the_body_and_goes_on_when_nothing_fails) {
  std::atomic<int> calls = 0;
  run_ranks(4, [&](Communicator& world) {
    on_all_ranks(world, [&] { ++calls; });
    world.barrier();
  });
  EXPECT_EQ(calls, 4);
}

TEST(GatherTexts, keeps_lengths_and_order) {
  run_ranks(3, [](Communicator& world) {
    const std::string mine(static_cast<std::size_t>(world.rank() * 2), 'a');
    EXPECT_THAT(gather_texts(world, mine), testing::ElementsAre("", "aa", "aaaa"));
    EXPECT_THAT(gather_texts(world, ""), testing::ElementsAre("", "", ""));
  });
}

TEST(Agreement, a_rank_without_memory_is_told_what_helps) {
  const auto [message, kind] = error_on_all(3, [&](Communicator& world) {
    on_all_ranks(world, [&] {
      if (world.rank() == 1) throw std::bad_alloc();
    });
  });
  EXPECT_EQ(kind, ErrorKind::internal);
  EXPECT_THAT(message, AllOf(HasSubstr("on rank 1: there is not enough memory"),
                             HasSubstr("use more ranks, shorter segments")));
}

}  // namespace
}  // namespace longscan::test

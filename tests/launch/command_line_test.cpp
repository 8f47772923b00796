// What the program says to command lines and configurations that are wrong.
#include "io/token_store.h"
#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class CommandLineTest : public ProgramTest {
 protected:
  void expect_refused(const Outcome& outcome, int code, const std::string& message) {
    EXPECT_EQ(outcome.code, code) << outcome.errors;
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr("longscan: "), HasSubstr(message)));
  }

  /// Changes a token of a store, which opens all the same and cannot be read.
  static void damage_tokens(const std::filesystem::path& path) {
    const std::vector<std::int32_t> tokens = TokenStore(path).read(Split::train, 0, 40);
    std::string bytes = contents_of(path);
    const std::size_t place = bytes.find(std::string(tokens.begin(), tokens.end()));
    ASSERT_NE(place, std::string::npos);
    bytes[place] = static_cast<char>(bytes[place] ^ 1);
    write_text(path, bytes);
  }
};

TEST_F(CommandLineTest, helps) {
  EXPECT_THAT(succeed("--help"), AllOf(HasSubstr("pack"), HasSubstr("generate")));
  EXPECT_THAT(succeed("train --help"), AllOf(HasSubstr("--resume"), HasSubstr("training.seed")));
  EXPECT_THAT(succeed("--version"), StartsWith("longscan "));
  const std::string told = succeed(2, "eval --help");
  EXPECT_EQ(told.find("--checkpoint TEXT"), told.rfind("--checkpoint TEXT"));
}

TEST_F(CommandLineTest, suggests_what_may_have_been_meant) {
  expect_refused(longscan("trian"), 64, "'trian' is not known here, did you mean 'train'?");
  expect_refused(longscan("train --max-step 3"), 64, "did you mean '--max-steps'?");
  expect_refused(longscan("train --set model.widht=3"), 64, "did you mean 'model.width'?");
  expect_refused(longscan("train --set model.width=wide"), 64, "--set model.width=wide");
  expect_refused(longscan("train --max-steps=many"), 64, "training.max_steps=many");
}

TEST_F(CommandLineTest, needs_what_a_verb_needs) {
  expect_refused(longscan(""), 64, "subcommand is required");
  expect_refused(longscan("train"), 64, "name a token store with --data");
  expect_refused(longscan("pack"), 64, "is required");
  expect_refused(longscan("eval"), 64, "--checkpoint is required");
}

TEST_F(CommandLineTest, refuses_values_that_are_empty_or_too_large) {
  make_corpus();
  const std::string train = "train --config small.textproto --dry-run ";
  expect_refused(longscan(train + "--seed ''"), 64, "training.seed=");
  expect_refused(longscan(train + "--data ''"), 64, "name a token store with --data");
  expect_refused(longscan(train + "--threads 4294967297"), 64, "parallel.threads");
  expect_refused(longscan("eval --checkpoint run --threads 4294967297"), 64, "--threads");
  expect_refused(longscan("generate --checkpoint run --threads 4294967297"), 64, "--threads");
}

TEST_F(CommandLineTest, names_the_place_in_a_configuration) {
  write_text(folder_ / "wrong.textproto", "data { window: 64 }\nmodel { widht: 3 }\n");
  expect_refused(longscan("train --config wrong.textproto"), 64, "wrong.textproto:2:9: ");
  expect_refused(longscan("train --set model.heads=3"), 64, "model.heads");
}

TEST_F(CommandLineTest, says_which_file_is_missing) {
  expect_refused(longscan("train --data nothing.h5"), 66, "nothing.h5");
  expect_refused(longscan("train --config nothing.textproto"), 66, "nothing.textproto");
  expect_refused(longscan("eval --checkpoint nothing"), 66, "nothing");
  expect_refused(longscan("generate --checkpoint nothing"), 66, "nothing");
}

TEST_F(CommandLineTest, says_so_once_on_many_ranks) {
  const Outcome outcome = longscan(3, "train --data nothing.h5");
  expect_refused(outcome, 66, "nothing.h5");
  EXPECT_EQ(outcome.errors.find("longscan: "), outcome.errors.rfind("longscan: "));
}

TEST_F(CommandLineTest, ranks_must_divide_into_groups) {
  make_corpus();
  expect_refused(longscan(3, "train --config small.textproto --sequence 2"), 64,
                 "3 ranks do not divide into sequence groups of 2");
}

TEST_F(CommandLineTest, says_where_it_cannot_write) {
  make_corpus();
  const std::string inside_a_file = "proteins.fasta/run";
  expect_refused(longscan(2, "train --config small.textproto --run " + inside_a_file), 74,
                 inside_a_file);
  expect_refused(longscan("pack proteins.fasta --out nowhere/store.h5"), 74, "nowhere/store.h5");
}

TEST_F(CommandLineTest, names_the_rank_that_differs) {
  make_corpus();
  const std::string train = program() + " train --config small.textproto --run run";
  const auto among_three = [&](const std::string& first, const std::string& third) {
    return shell(mpirun() + " -n 1 " + first + " : -n 1 " + train + " : -n 1 " + third);
  };
  expect_refused(among_three(train, train + " --set training.seed=5"), 64,
                 "rank 2 differs in the configuration, rank 2 has");
  expect_refused(among_three(train, train + " --set training.seed=5"), 64,
                 "(training.seed: 1 -> 5)");
  expect_refused(among_three(train + " --set optimizer.beta1=0.5", train), 64,
                 "rank 0 differs in the configuration");
  expect_refused(among_three(train, program() + " eval --checkpoint run"), 64,
                 "rank 2 differs in the verb");
  expect_refused(among_three(train, train + " --sed 3"), 64, "on rank 2: '--sed' is not known");
  expect_refused(among_three(train, train + " --dry-run"), 64, "rank 2 differs in --dry-run");
  expect_refused(among_three(train, train + " --help"), 64, "rank 2 differs in asking for help");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

TEST_F(CommandLineTest, threads_are_each_rank_s_own) {
  make_corpus();
  const std::string train = program() + " train --config small.textproto --dry-run";
  EXPECT_EQ(shell(mpirun() + " -n 1 " + train + " : -n 1 " + train + " --threads 2").code, 0);
}

TEST_F(CommandLineTest, names_the_rank_with_other_data) {
  make_corpus();
  write_text(folder_ / "other/proteins.fasta", sample_fasta(60, 12));
  shell("cp small.textproto other && cd other && " + program() +
        " pack proteins.fasta --out store.h5");
  const std::string train = program() + " train --config small.textproto";
  expect_refused(shell(mpirun() + " -n 1 " + train + " : -n 1 -wdir other " + train), 64,
                 "rank 1 differs in the data");

  succeed("train --config small.textproto --run run");
  const std::string eval = program() + " eval --checkpoint run --data store.h5";
  expect_refused(shell(mpirun() + " -n 1 " + eval + " : -n 1 -wdir other " + eval), 64,
                 "rank 1 differs in the data");
}

TEST_F(CommandLineTest, a_verb_that_saves_nothing_ends_when_it_is_told_to) {
  make_corpus();
  succeed("train --config small.textproto --run run");
  // 124: TERM has ended it; 137: only KILL has.
  EXPECT_EQ(shell("timeout --kill-after=20 2 " + program() +
                  " generate --checkpoint run -n 1000000000 --out samples.fasta")
                .code,
            124);
}

TEST_F(CommandLineTest, a_rank_that_fails_alone_ends_the_job) {
  make_corpus();
  // The same content hash, but its tokens cannot be read: a byte in the middle is another one.
  std::filesystem::create_directory(folder_ / "other");
  for (const char* name : {"store.h5", "small.textproto"}) {
    std::filesystem::copy_file(folder_ / name, folder_ / "other" / name);
  }
  damage_tokens(folder_ / "other/store.h5");
  const std::string train = program() + " train --config small.textproto";
  const Outcome outcome = shell(mpirun() + " -n 1 " + train + " : -n 1 -wdir other " + train);
  expect_refused(outcome, 65, "(on rank 1 alone)");
  EXPECT_THAT(outcome.errors, HasSubstr("store.h5"));
}

}  // namespace
}  // namespace longscan::test

// `longscan pack` and `longscan inspect` of token stores.
#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class PackTest : public ProgramTest {};

TEST_F(PackTest, tells_what_was_read_and_what_was_changed) {
  write_text(folder_ / "in.fasta", ">a\nMKVa\n>a twice\nMK*\n>empty\n>b\nMK4C\n");
  const std::string told = succeed("pack in.fasta --out out.h5 --unknown=map");
  EXPECT_THAT(told, AllOf(HasSubstr("3 records"), HasSubstr("1  lower-case letters"),
                          HasSubstr("1  unknown letters"), HasSubstr("1  '*' at the end"),
                          HasSubstr("1  records without a letter"),
                          HasSubstr("1  records whose identifier"), HasSubstr("wrote out.h5")));
  EXPECT_THAT(succeed("inspect out.h5"),
              AllOf(HasSubstr("a token store"), HasSubstr("protein (30 tokens"),
                    HasSubstr("in.fasta:"), HasSubstr("unigram perplexity")));
}

TEST_F(PackTest, refuses_a_letter_with_its_place) {
  write_text(folder_ / "in.fasta", ">a\nMKV\nMK4C\n");
  const Outcome outcome = longscan("pack in.fasta --out out.h5");
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.errors, HasSubstr("longscan: in.fasta:3:3: "));
  EXPECT_THAT(outcome.output, Not(HasSubstr("wrote")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.h5"));
}

TEST_F(PackTest, needs_its_input) {
  const Outcome outcome = longscan("pack nothing.fasta --out out.h5");
  EXPECT_EQ(outcome.code, 66);
  EXPECT_THAT(outcome.errors, HasSubstr("nothing.fasta"));
}

TEST_F(PackTest, replaces_a_store_only_when_told_to) {
  write_text(folder_ / "in.fasta", ">a\nMKV\n");
  succeed("pack in.fasta --out out.h5");
  const std::string before = contents_of(folder_ / "out.h5");
  const Outcome outcome = longscan("pack in.fasta --out out.h5");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("out.h5: "), HasSubstr("--overwrite")));
  EXPECT_EQ(contents_of(folder_ / "out.h5"), before);
  write_text(folder_ / "in.fasta", ">a\nMKVMKVMKV\n");
  succeed("pack in.fasta --out out.h5 --overwrite");
  EXPECT_NE(contents_of(folder_ / "out.h5"), before);
}

TEST_F(PackTest, takes_texts_in_folders) {
  write_text(folder_ / "books/train/1.txt", "Once upon a time.");
  write_text(folder_ / "books/validation/2.txt", "The end.");
  EXPECT_THAT(succeed("pack books --out out.h5"),
              AllOf(HasSubstr("2 records"), HasSubstr("bytes (260 tokens")));
}

TEST_F(PackTest, is_done_once_on_many_ranks) {
  write_text(folder_ / "in.fasta", ">a\nMKV\n");
  const std::string told = succeed(3, "pack in.fasta --out out.h5");
  EXPECT_EQ(told.find("wrote"), told.rfind("wrote"));
}

TEST_F(PackTest, inspect_refuses_what_is_neither) {
  write_text(folder_ / "in.fasta", ">a\nMKV\n");
  EXPECT_EQ(longscan("inspect in.fasta").code, 65);
  EXPECT_EQ(longscan("inspect nothing.h5").code, 66);
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_EQ(longscan("inspect empty").code, 66);
}

}  // namespace
}  // namespace longscan::test

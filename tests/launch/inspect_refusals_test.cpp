// What `longscan inspect attention` and `longscan inspect similarity` refuse, and how they say so.
#include "tests/support/inspect_case.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class InspectRefusalsTest : public InspectTest {};

TEST_F(InspectRefusalsTest, refuses_what_is_not_there) {
  train("run");
  const std::string inspect = "inspect attention --checkpoint run --fasta two.fasta --out map ";
  expect_refused(inspect + "--record third", 64, "--record: there is no record 'third'");
  expect_refused(inspect + "--record 4", 64, "two.fasta has 3 records");
  expect_refused(inspect + "--layer 2", 64, "--layer: there is no layer 2, the model has 0 to 1");
  expect_refused(inspect + "--head 2", 64, "--head: there is no head 2");
  expect_refused(inspect + "--head -1", 64, "--head: there is no head -1");
  expect_refused("inspect attention --checkpoint run --fasta no.fasta --out map", 66, "no.fasta");
  expect_refused("inspect attention --checkpoint no --fasta two.fasta --out map", 66, "no");
  expect_refused("inspect attention --checkpoint run --fasta two.fasta --out no/map", 74,
                 "no/map.h5");
  expect_refused("inspect attention --checkpoint run --fasta two.fasta --out ./", 64, "--out");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "map.h5"));
}

TEST_F(InspectRefusalsTest, refuses_records_that_the_model_cannot_take) {
  train("run", "--set model.positions=learned --set data.window=40");
  const auto refuse = [&](const std::string& fasta, const std::string& options,
                          const std::string& message) {
    write_text(folder_ / "in.fasta", fasta);
    expect_refused("inspect attention --checkpoint run --fasta in.fasta --out map " + options, 65,
                   message);
  };
  refuse("", "", "in.fasta: there is no record in it");
  refuse(">a\n\n>b\nMKV\n", "", "in.fasta:1: the record 'a' has no letters");
  refuse(">a\nMK4\n", "", "in.fasta:2:3: letter '4' is no amino acid");
  refuse(">a\n" + std::string(40, 'A'), "",
         "in.fasta:1: the record 'a' makes 41 tokens, the model takes documents of at most 40");
  refuse(">a\nMKVMKV", "--longest 6", "at most 6 are taken, since a matrix has their square");
  // Only the letters of the record itself matter.
  refuse(">a\nMK4\n>b\nMKV\n>c\nM-K\n", "--record 3", "in.fasta:6:2: letter '-'");
  succeed("inspect attention --checkpoint run --fasta in.fasta --out b --record 2");
  EXPECT_EQ(attribute_of(folder_ / "b.h5", "sequence"), "MKV");
  write_text(folder_ / "in.fasta", ">a\nMK4" + std::string(36, 'A'));
  succeed("inspect attention --checkpoint run --fasta in.fasta --out map --unknown map");
  EXPECT_EQ(attribute_of(folder_ / "map.h5", "sequence").substr(0, 4), "MKXA");
}

TEST_F(InspectRefusalsTest, says_how_to_take_less_memory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need more memory than is there";
#endif
  train("run", "--max-steps 2");
  write_text(folder_ / "long.fasta", ">long\n" + std::string(24'000, 'M'));
  for (const std::string form : {"attention", "similarity"}) {
    const Outcome outcome =
        shell("ulimit -v 3500000; " + program() + " inspect " + form +
              " --checkpoint run --fasta long.fasta --out map --longest 30000 --threads 1");
    EXPECT_EQ(outcome.code, 70) << form;
    EXPECT_THAT(outcome.errors,
                AllOf(HasSubstr("not enough memory, the matrices of 24,001 tokens and 2 heads take "
                                "4.3 GiB"),
                      HasSubstr("a smaller --longest or one --head")))
        << form;
  }
}

TEST_F(InspectRefusalsTest, says_that_a_checkpoint_has_diverged) {
  train("run", "--max-steps 2");
  const std::filesystem::path path = folder_ / "run/step-00000002.h5";
  // Infinite scores come of large parameters, too.
  for (const auto& [value, message] : {std::pair{NAN, "a number of its parameters is nan"},
                                       {1e30F, "a number of layer 0's attention is "}}) {
    write_with(path, "bad", "layers.0.attention.norm.weight", value);
    for (const std::string form : {"attention", "similarity"}) {
      const std::string inspect =
          "inspect " + form + " --checkpoint bad --fasta two.fasta --out map";
      expect_refused(inspect, 65, message);
      expect_refused(inspect, 65, "the checkpoint may come from a diverged run");
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "map.h5"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "map.png"));
}

TEST_F(InspectRefusalsTest, models_of_bytes_have_attention_and_no_similarity) {
  write_text(folder_ / "book.txt", std::string(2000, 'a'));
  succeed("pack book.txt --out book.h5");
  train("book", "--data book.h5 --max-steps 2");
  succeed("inspect attention --checkpoint book --fasta two.fasta --out map");
  expect_refused("inspect similarity --checkpoint book --fasta two.fasta --out s", 64,
                 "the checkpoint's vocabulary is 'bytes'");
}

TEST_F(InspectRefusalsTest, replaces_files_only_when_told_to) {
  train("run", "--max-steps 2");
  for (const std::string form : {"attention", "similarity"}) {
    const std::string inspect =
        "inspect " + form + " --checkpoint run --fasta two.fasta --out " + form;
    write_text(folder_ / (form + ".png"), "mine");
    expect_refused(inspect, 64, form + ".png: the file exists already, --overwrite replaces it");
    EXPECT_FALSE(std::filesystem::exists(folder_ / (form + ".h5")));
    EXPECT_EQ(contents_of(folder_ / (form + ".png")), "mine");
    succeed(inspect + " --overwrite");
    expect_picture(form + ".png", 400);
    expect_refused(inspect, 64, form + ".h5: the file exists already");
  }
}

TEST_F(InspectRefusalsTest, looks_at_its_output_before_anything_else) {
  std::filesystem::create_directories(folder_ / "folder.png");
  for (const std::string form : {"attention", "similarity"}) {
    const std::string inspect = "inspect " + form + " --checkpoint no --fasta no.fasta --out ";
    expect_refused(inspect + "no/s", 74, "no/s.h5: the file cannot be made");
    expect_refused(inspect + "folder --overwrite", 64, "folder.png: there is a folder");
    expect_refused(inspect + "s", 66, "no");
    write_text(folder_ / "old.h5", "mine");
    expect_refused(inspect + "old", 64, "old.h5: the file exists already");
    expect_refused(inspect + "old --overwrite", 66, "no");
    EXPECT_EQ(contents_of(folder_ / "old.h5"), "mine");
  }
  for (const std::string left : {"s.h5", "s.h5.partial", "s.png", "s.png.partial"}) {
    EXPECT_FALSE(std::filesystem::exists(folder_ / left)) << left;
  }
}

TEST_F(InspectRefusalsTest, without_gnuplot_the_numbers_are_there) {
  train("run", "--max-steps 2");
  const auto inspect = [&](const std::string& path, const std::string& out) {
    // Open MPI looks for its helpers in the path, unless a process is on its own.
    return shell("OMPI_MCA_ess_singleton_isolated=1 PATH=" + path + " " + program() +
                 " inspect attention --checkpoint run --fasta two.fasta --out " + out);
  };
  const Outcome none = inspect("/nowhere", "none");
  EXPECT_EQ(none.code, 66) << none.errors;
  EXPECT_THAT(none.errors, AllOf(HasSubstr("none.png: the picture cannot be drawn"),
                                 HasSubstr("install the package gnuplot-nox")));
  EXPECT_THAT(numbers_in(folder_ / "none.h5", "layer_0").shape, ElementsAre(2, 24, 24));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.png"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.png.partial"));

  write_text(folder_ / "fake/gnuplot", "#!/bin/sh\necho 'no such terminal' >&2\nexit 3\n");
  std::filesystem::permissions(folder_ / "fake/gnuplot", std::filesystem::perms::owner_all);
  const Outcome fails = inspect("fake", "fails");
  EXPECT_EQ(fails.code, 74) << fails.errors;
  EXPECT_THAT(fails.errors, HasSubstr("no such terminal"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "fails.png"));
}

TEST_F(InspectRefusalsTest, what_a_user_has_told_gnuplot_changes_no_picture) {
  train("run", "--max-steps 2");
  write_text(folder_ / "home/.gnuplot", "set label 'mine' at screen 0.5, 0.5 front\n");
  for (const std::string home : {"nobody", "home"}) {
    const Outcome outcome =
        shell("HOME=$PWD/" + home + " " + program() +
              " inspect attention --checkpoint run --fasta two.fasta --out " + home + "_map");
    ASSERT_EQ(outcome.code, 0) << outcome.errors;
  }
  expect_picture("home_map.png", 400);
  EXPECT_EQ(contents_of(folder_ / "home_map.png"), contents_of(folder_ / "nobody_map.png"));
}

TEST_F(InspectRefusalsTest, a_path_and_a_form_exclude_each_other) {
  train("run", "--max-steps 2");
  EXPECT_THAT(succeed("inspect run"), HasSubstr("step 2, "));
  EXPECT_THAT(succeed("inspect store.h5"), HasSubstr("a token store"));
  expect_refused("inspect", 64, "path, attention or similarity is required");
  expect_refused("inspect run attention --checkpoint run --fasta two.fasta --out map", 64, "path");
  expect_refused("inspect attention", 64, "`longscan inspect attention --help` tells the options");
  expect_refused("inspect attention --checkpoint run --fasta two.fasta --out m --recrd 3", 64,
                 "did you mean '--record'?");
  EXPECT_THAT(succeed("inspect --help"), AllOf(HasSubstr("attention"), HasSubstr("similarity")));
  EXPECT_THAT(succeed("inspect attention --help"),
              AllOf(HasSubstr("--record"), HasSubstr("linformer")));
}

}  // namespace
}  // namespace longscan::test

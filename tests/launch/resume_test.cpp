// A run that is stopped in whatever way goes on as if it had not been.
#include <cmath>
#include <thread>

#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Not;

class ResumeTest : public ProgramTest {
 protected:
  void SetUp() override { make_corpus(); }

  std::vector<float> parameters(const std::string& checkpoint) {
    return parameters_of(folder_ / checkpoint);
  }
  CheckpointHeader header(const std::string& checkpoint) {
    return read_checkpoint_header(folder_ / checkpoint);
  }
  void flip_byte(const std::string& file) {
    std::string bytes = contents_of(folder_ / file);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
    write_text(folder_ / file, bytes);
  }
};

constexpr const char* kTrain = "train --config small.textproto --set model.dropout=0.1 ";

TEST_F(ResumeTest, goes_on_bit_by_bit_over_the_end_of_an_epoch) {
  const std::string train = std::string(kTrain) + "--max-steps 24 --save-every 6 --keep-last 0 ";
  for (const int ranks : {1, 2}) {
    const std::string whole = "whole" + std::to_string(ranks);
    const std::string parts = "parts" + std::to_string(ranks);
    succeed(ranks, train + "--run " + whole);
    // Steps 7 to 12 cross the end of the first epoch.
    EXPECT_EQ(header(whole + "/step-00000006.h5").loader_epoch, 0);
    EXPECT_GT(header(whole + "/step-00000012.h5").loader_epoch, 0);
    const std::string told =
        succeed(ranks, train + "--run " + parts + " --resume=" + whole + "/step-00000006.h5");
    EXPECT_THAT(told, HasSubstr("resuming from " + whole + "/step-00000006.h5 at step 6"));
    EXPECT_EQ(parameters(parts + "/step-00000024.h5"), parameters(whole + "/step-00000024.h5"));
    EXPECT_EQ(header(parts + "/step-00000024.h5").tokens_seen,
              header(whole + "/step-00000024.h5").tokens_seen);
    const std::vector<double> loss = metric(folder_ / whole, "loss");
    EXPECT_THAT(metric(folder_ / parts, "loss"), ElementsAreArray(loss.begin() + 6, loss.end()));
  }
}

TEST_F(ResumeTest, goes_on_at_any_other_number_of_ranks) {
  const std::string train = std::string(kTrain) + "--save-every 6 --keep-last 0 ";
  std::vector<float> truth;
  for (const int before : {1, 2, 3, 4}) {
    const std::string first = "from" + std::to_string(before);
    succeed(before, train + "--run " + first);
    if (truth.empty()) truth = parameters(first + "/step-00000012.h5");
    for (const int after : {1, 2, 3, 4}) {
      const std::string second = first + "to" + std::to_string(after);
      succeed(after, train + "--run " + second + " --resume=" + first + "/step-00000006.h5");
      EXPECT_LT(largest_difference(parameters(second + "/step-00000012.h5"), truth), 2e-4)
          << before << " -> " << after;
    }
  }
}

TEST_F(ResumeTest, a_signal_to_mpirun_saves_and_the_same_command_goes_on) {
  const std::string train = std::string(kTrain) + "--max-steps 150 --log-every 10 --run ";
  succeed(2, train + "whole");
  // Sends the signal once ten steps are logged.
  const Outcome stopped = shell(mpirun() + " -n 2 " + program() + " " + train +
                                "run & job=$!; while kill -0 $! && ! grep -q '\"step\": 10' "
                                "run/metrics.jsonl; do sleep 0.02; done; "
                                "kill -USR1 $job; wait $job");
  EXPECT_EQ(stopped.code, 75) << stopped.errors;
  EXPECT_THAT(stopped.errors, AllOf(HasSubstr("longscan: run: stopped after step "),
                                    HasSubstr("SIGUSR1 asked for it")));
  const std::string told = succeed(2, train + "run");
  EXPECT_THAT(told, HasSubstr("resuming from run/step-"));
  EXPECT_EQ(parameters("run/step-00000150.h5"), parameters("whole/step-00000150.h5"));

  const std::vector<double> steps = metric(folder_ / "run", "step");
  for (std::size_t i = 1; i < steps.size(); ++i) EXPECT_LT(steps[i - 1], steps[i]);
  EXPECT_EQ(steps.back(), 150);
}

TEST_F(ResumeTest, a_terminated_program_saves) {
  const Outcome stopped =
      shell(program() + " " + kTrain +
            "--max-steps 100000 --run run & job=$!; "
            "while kill -0 $! && ! grep -q '\"step\": 5' run/metrics.jsonl; do sleep 0.02; done; "
            "kill -TERM $job; wait $job");
  EXPECT_EQ(stopped.code, 75) << stopped.errors;
  EXPECT_THAT(succeed("inspect run"), HasSubstr("a run with 1 checkpoint"));
}

TEST_F(ResumeTest, a_killed_run_repeats_no_step_in_its_metrics) {
  const std::string train =
      std::string(kTrain) + "--max-steps 100 --save-every 20 --log-every 1 --run run";
  shell(mpirun() + " -n 2 " + program() + " " + train +
        " & while kill -0 $! && ! grep -q '\"step\": 30' run/metrics.jsonl; do sleep 0.02; done; "
        "kill -KILL $(cat /proc/$!/task/$!/children); wait");
  EXPECT_THAT(succeed(2, train), HasSubstr("resuming from run/step-"));
  const std::vector<double> steps = metric(folder_ / "run", "step");
  ASSERT_EQ(steps.size(), 100U);
  for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], i + 1);
}

TEST_F(ResumeTest, a_finished_run_is_only_evaluated) {
  succeed(std::string(kTrain) + "--run run");
  const std::string metrics = contents_of(folder_ / "run/metrics.jsonl");
  EXPECT_THAT(succeed(2, std::string(kTrain) + "--run run"),
              AllOf(HasSubstr("has taken its 12 steps already"), HasSubstr("perplexity")));
  EXPECT_EQ(contents_of(folder_ / "run/metrics.jsonl"), metrics);
  const std::string told = succeed(std::string(kTrain) + "--run run --max-steps 15");
  EXPECT_THAT(told, HasSubstr("training.max_steps: 12 -> 15"));
  EXPECT_EQ(metric(folder_ / "run", "step").size(), 15U);
}

TEST_F(ResumeTest, a_damaged_checkpoint_is_passed_over_and_said_so) {
  const std::string train = std::string(kTrain) + "--save-every 4 --run run ";
  succeed(train);
  flip_byte("run/step-00000012.h5");
  EXPECT_THAT(succeed(2, train + "--max-steps 14"),
              AllOf(HasSubstr("passed over a checkpoint: run/step-00000012.h5"),
                    HasSubstr("resuming from run/step-00000008.h5 at step 8")));
  flip_byte("run/step-00000014.h5");
  const Outcome outcome = longscan(2, "eval --checkpoint run/step-00000014.h5");
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.errors, HasSubstr("run/step-00000014.h5"));
  EXPECT_EQ(longscan("inspect run/step-00000014.h5").code, 65);
}

TEST_F(ResumeTest, a_new_run_leaves_another_s_checkpoints_alone) {
  const std::string train = std::string(kTrain) + "--run run ";
  succeed(train + "--resume=none");
  const Outcome outcome = longscan(2, train + "--resume=none");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("holds checkpoints of another run"), HasSubstr("--run")));
  EXPECT_EQ(longscan(train + "--resume=nothing.h5").code, 66);
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_EQ(longscan(train + "--resume=empty").code, 66);
}

TEST_F(ResumeTest, a_run_from_elsewhere_leaves_another_s_checkpoints_alone) {
  const std::string train = std::string(kTrain) + "--save-every 6 --log-every 1 ";
  succeed(train + "--run a");
  succeed(train + "--run b");
  const std::string metrics = contents_of(folder_ / "b/metrics.jsonl");
  const std::string configuration = contents_of(folder_ / "b/config.textproto");
  for (const std::string start : {"a/step-00000006.h5", "a"}) {
    const Outcome outcome = longscan(2, train + "--max-steps 14 --run b --resume=" + start);
    EXPECT_EQ(outcome.code, 64);
    EXPECT_THAT(outcome.errors, AllOf(HasSubstr("the folder holds checkpoints of another run"),
                                      HasSubstr("a run from a/step-000000"), HasSubstr("--run")));
  }
  EXPECT_EQ(contents_of(folder_ / "b/metrics.jsonl"), metrics);
  EXPECT_EQ(contents_of(folder_ / "b/config.textproto"), configuration);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "b/step-00000006.h5"));
}

TEST_F(ResumeTest, a_checkpoint_of_its_own_folder_may_be_named_in_any_way) {
  const std::string train =
      program() + " train --config ../small.textproto --data ../store.h5 --run . --save-every 4 ";
  std::filesystem::create_directory(folder_ / "run");
  for (const std::string options :
       {"", "--resume=step-00000008.h5 --max-steps 9", "--resume=../run/step-00000004.h5"}) {
    const Outcome outcome = shell("cd run && " + train + "--keep-last 0 " + options);
    EXPECT_EQ(outcome.code, 0) << outcome.errors;
  }
  // `latest` followed each of the ways back.
  EXPECT_EQ(metric(folder_ / "run", "step").size(), 12U);
}

TEST_F(ResumeTest, says_which_checkpoints_a_smaller_keep_last_removes) {
  const std::string train = std::string(kTrain) + "--save-every 3 --run run ";
  EXPECT_THAT(succeed(train + "--keep-last 3"), Not(HasSubstr("removed")));
  EXPECT_THAT(succeed(train + "--keep-last 1 --max-steps 15"),
              HasSubstr("removed 3 checkpoints, by training.keep_last: step-00000012.h5, "
                        "step-00000009.h5, step-00000006.h5"));
  succeed(train + "--keep-last 0 --max-steps 18");
  EXPECT_THAT(succeed(train + "--keep-last 2 --max-steps 17 --resume=run/step-00000015.h5"),
              HasSubstr("removed 1 checkpoint, by training.keep_last: step-00000018.h5"));
}

TEST_F(ResumeTest, another_model_or_vocabulary_is_an_error_and_another_schedule_is_said) {
  const std::string train = std::string(kTrain) + "--run run ";
  succeed(train);
  const Outcome wider = longscan(2, train + "--set model.width=32 --set model.heads=4");
  EXPECT_EQ(wider.code, 64);
  EXPECT_THAT(wider.errors, AllOf(HasSubstr("model.width: 16 -> 32"), HasSubstr("model.heads")));

  const std::string told = succeed(train +
                                   "--max-steps 14 --set optimizer.schedule=linear "
                                   "--set model.dropout=0.2");
  EXPECT_THAT(told, AllOf(HasSubstr("optimizer.schedule: constant -> linear"),
                          HasSubstr("model.dropout: 0.1 -> 0.2"), Not(HasSubstr("model.width: "))));

  write_text(folder_ / "book.txt", std::string(2000, 'a'));
  succeed("pack book.txt --out book.h5");
  const Outcome bytes = longscan(train + "--data book.h5");
  EXPECT_EQ(bytes.code, 64);
  EXPECT_THAT(bytes.errors, HasSubstr("vocabulary: protein -> bytes"));
}

TEST_F(ResumeTest, other_data_are_an_error_unless_a_checkpoint_is_named) {
  succeed(std::string(kTrain) + "--run run ");
  write_text(folder_ / "other.fasta", sample_fasta(60, 12));
  succeed("pack other.fasta --out other.h5 --validation-fraction 0.2");
  const Outcome outcome =
      longscan(std::string(kTrain) + "--run run --max-steps 14 --data other.h5");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors, HasSubstr("trained on other data than other.h5"));
  EXPECT_THAT(
      succeed(std::string(kTrain) + "--run tuned --max-steps 14 --data other.h5 --resume=run"),
      HasSubstr("the data are other ones"));
}

TEST_F(ResumeTest, going_back_in_one_folder_leaves_the_later_checkpoints) {
  const std::string train = std::string(kTrain) + "--save-every 4 --keep-last 0 --run run ";
  succeed(train);
  succeed(train + "--max-steps 6 --resume=run/step-00000004.h5");
  EXPECT_THAT(succeed("eval --checkpoint run"), HasSubstr("step-00000006.h5"));
  EXPECT_EQ(metric(folder_ / "run", "step").size(), 6U);
}

}  // namespace
}  // namespace longscan::test

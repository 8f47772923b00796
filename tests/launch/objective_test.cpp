// Models that predict masked tokens: trained, evaluated, resumed, and what they are no use for.
#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class ObjectiveTest : public ProgramTest {
 protected:
  void SetUp() override { make_corpus(); }

  void expect_refused(const std::string& arguments, const std::string& message) {
    const Outcome outcome = longscan(2, arguments);
    EXPECT_EQ(outcome.code, 64) << arguments;
    EXPECT_THAT(outcome.errors, HasSubstr(message));
  }
};

// The corpus' configuration has segments, which need a state that only looks back.
constexpr const char* kMasked =
    "train --config small.textproto --set model.causal=false "
    "--set training.objective=masked_token --set training.segment=0 ";

TEST_F(ObjectiveTest, masked_tokens_are_learned_from_both_sides) {
  // Each letter mostly follows from the one before it, as that does from this one; without
  // attention the perplexity stays above 0.8 of the baseline.
  const std::string told = succeed(std::string(kMasked) +
                                   "--run run --max-steps 400 --log-every 100 --set data.window=40 "
                                   "--set data.batch=20 --set model.positions=learned "
                                   "--set model.attention.kind=relu --set model.width=32");
  const double perplexity = metric(folder_ / "run", "validation_perplexity").at(0);
  const double baseline = metric(folder_ / "run", "validation_unigram_perplexity").at(0);
  EXPECT_LT(perplexity, 0.5 * baseline);
  // 15 % of the letters of 400 steps of 800 tokens.
  const double seen = metric(folder_ / "run", "tokens_seen").back();
  EXPECT_NEAR(seen / (400 * 800), 0.147, 0.003);
  EXPECT_THAT(told, HasSubstr("objective: masked_token"));
}

TEST_F(ObjectiveTest, masks_are_the_same_on_any_ranks) {
  for (const std::string options : {"", "--set data.isolate_records=true"}) {
    const std::string train = std::string(kMasked) + options + " --run ";
    succeed(train + "one");
    const std::vector<double> loss = metric(folder_ / "one", "loss");
    EXPECT_THAT(loss, SizeIs(12));
    for (const auto& [ranks, sequence] : {std::pair{2, 0}, {3, 1}, {4, 2}}) {
      const std::string run = "run-" + std::to_string(ranks);
      succeed(ranks, train + run + " --sequence " + std::to_string(sequence));
      const std::vector<double> other = metric(folder_ / run, "loss");
      ASSERT_EQ(other.size(), loss.size());
      for (std::size_t i = 0; i < loss.size(); ++i) EXPECT_NEAR(other[i], loss[i], 1e-4) << i;
      EXPECT_NEAR(metric(folder_ / run, "validation_loss").at(0),
                  metric(folder_ / "one", "validation_loss").at(0), 1e-4);
      EXPECT_EQ(metric(folder_ / run, "tokens_seen"), metric(folder_ / "one", "tokens_seen"));
      std::filesystem::remove_all(folder_ / run);
    }
    std::filesystem::remove_all(folder_ / "one");
  }
}

TEST_F(ObjectiveTest, every_evaluation_masks_the_same_tokens) {
  succeed(std::string(kMasked) + "--run run --eval-every 6");
  const double in_training = metric(folder_ / "run", "validation_loss").back();
  const std::vector<double> baselines = metric(folder_ / "run", "validation_unigram_perplexity");
  ASSERT_THAT(baselines, SizeIs(2));
  EXPECT_EQ(baselines[0], baselines[1]);
  for (const int ranks : {1, 3}) {
    const std::string told = succeed(ranks, "eval --checkpoint run");
    EXPECT_NEAR(number_behind(told, "\nloss "), in_training, 2e-4) << told;
    EXPECT_NEAR(number_behind(told, "unigram baseline"), baselines[0], 1e-4);
    EXPECT_THAT(told, HasSubstr("masked tokens"));
  }
}

TEST_F(ObjectiveTest, bits_per_byte_are_those_of_a_whole_text) {
  write_text(folder_ / "fox.txt", std::string(3000, 'a') + std::string(500, 'b'));
  succeed("pack fox.txt --out fox.h5 --validation-fraction 0.2");
  succeed(std::string(kMasked) + "--data fox.h5 --run run --max-steps 2");
  EXPECT_THAT(succeed("eval --checkpoint run"), Not(HasSubstr("bits per byte")));
}

TEST_F(ObjectiveTest, a_line_without_a_masked_letter_does_not_stop_a_run) {
  // 0.85^4 of the lines have none.
  const std::string train = std::string(kMasked) +
                            "--set data.window=2 --set data.batch=2 --set model.dropout=0.1 "
                            "--set optimizer.accumulation=2 --max-steps 60 --save-every 30 "
                            "--set training.eval_windows=1 --keep-last 0 ";
  const std::string told = succeed(2, train + "--run whole");
  EXPECT_THAT(metric(folder_ / "whole", "loss"), SizeIs(60));
  for (const double loss : metric(folder_ / "whole", "loss")) EXPECT_TRUE(std::isfinite(loss));
  // A resumed run counts lines as the whole one has: they are the keys of dropout.
  succeed(2, train + "--run parts --resume=whole/step-00000030.h5");
  EXPECT_EQ(parameters_of(folder_ / "parts/step-00000060.h5"),
            parameters_of(folder_ / "whole/step-00000060.h5"));
  EXPECT_THAT(told, HasSubstr("no token of the windows evaluated is masked"));
  const Outcome outcome = longscan("eval --checkpoint whole --windows 1");
  EXPECT_EQ(outcome.code, 65);
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("there is nothing to predict"),
                                    HasSubstr("no token of the windows evaluated is masked")));
  EXPECT_EQ(longscan("eval --checkpoint whole").code, 0);
}

TEST_F(ObjectiveTest, a_model_that_sees_ahead_or_knows_no_next_token_generates_nothing) {
  succeed(std::string(kMasked) + "--run bidirectional");
  expect_refused("generate --checkpoint bidirectional",
                 "the model is bidirectional, each of its tokens sees those that follow");
  succeed("train --config small.textproto --set training.objective=masked_token --run causal");
  expect_refused("generate --checkpoint causal",
                 "causal/step-00000012.h5: the model has learned to predict masked tokens");
}

TEST_F(ObjectiveTest, what_cannot_be_is_refused_before_anything_is_done) {
  const std::string train = "train --config small.textproto --run run ";
  expect_refused(train + "--set model.causal=false",
                 "training.objective = next_token cannot be used with model.causal = false");
  expect_refused(std::string(kMasked) + "--set training.segment=70 --run run",
                 "layer 0 attends with elu1, which takes the line in one segment");
  expect_refused(train + "--set model.attention.kind=linformer",
                 "layer 0 attends with linformer, which cannot be causal");
  expect_refused(train + "--set 'model.layer_override=layers: 1 attention { kind: softmax }'",
                 "layer 1 attends with softmax, which takes the line in one segment");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
}

}  // namespace
}  // namespace longscan::test

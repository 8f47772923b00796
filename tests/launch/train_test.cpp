// `longscan train`, `eval`, `generate` and `inspect` on the way that everything goes well.
#include <cmath>
#include <numeric>

#include "io/configuration.h"
#include "io/token_store.h"
#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

class TrainTest : public ProgramTest {
 protected:
  void SetUp() override { make_corpus(); }
};

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance) << i;
}

TEST_F(TrainTest, learns_and_says_how_it_goes) {
  const std::string told =
      succeed("train --config small.textproto --run run --max-steps 60 --log-every 20");
  EXPECT_THAT(told, AllOf(HasSubstr("width: 16"), HasSubstr("parameters"), HasSubstr("step 20/60"),
                          HasSubstr("of peak"), HasSubstr("ETA"), HasSubstr("communication"),
                          HasSubstr("saved run/step-00000060.h5")));
  EXPECT_THAT(told, Not(HasSubstr("\r"))) << "a live line is for terminals";
  EXPECT_EQ(metric(folder_ / "run", "step"), (std::vector<double>{20, 40, 60}));
  const double perplexity = metric(folder_ / "run", "validation_perplexity").at(0);
  const double baseline = metric(folder_ / "run", "validation_unigram_perplexity").at(0);
  EXPECT_LT(perplexity, 0.8 * baseline);
  EXPECT_NEAR(number_behind(told, "unigram baseline "), baseline, 1e-3);
  const config::Config saved = read_configuration(folder_ / "run/config.textproto");
  EXPECT_EQ(saved.training().max_steps(), 60);
  EXPECT_EQ(saved.model().width(), 16);
}

TEST_F(TrainTest, is_the_same_on_any_ranks) {
  succeed("train --config small.textproto --run one");
  const std::vector<double> loss = metric(folder_ / "one", "loss");
  const std::vector<double> validation = metric(folder_ / "one", "validation_loss");
  EXPECT_THAT(loss, SizeIs(12));
  // Three windows a line: over two groups one has more, over four one has none.
  for (const auto& [ranks, sequence] :
       {std::pair{2, 0}, {3, 0}, {3, 1}, {2, 1}, {4, 2}, {4, 1}, {4, 0}}) {
    const std::string run = "run-" + std::to_string(ranks) + "-" + std::to_string(sequence);
    succeed(ranks, "train --config small.textproto --run " + run + " --sequence " +
                       std::to_string(sequence));
    expect_near(metric(folder_ / run, "loss"), loss, 1e-4);
    expect_near(metric(folder_ / run, "validation_loss"), validation, 1e-4);
  }
}

TEST_F(TrainTest, exact_softmax_is_the_same_on_any_ranks_and_generates) {
  const std::string train =
      "train --config small.textproto --set training.segment=0 "
      "--set 'model.layer_override=layers: 1 attention { kind: softmax }' --run ";
  succeed(train + "one");
  const std::string sample = succeed("generate --checkpoint one --max-tokens 30 --temperature 0.5");
  for (const int ranks : {2, 3}) {
    const std::string run = "run-" + std::to_string(ranks);
    succeed(ranks, train + run);
    expect_near(metric(folder_ / run, "loss"), metric(folder_ / "one", "loss"), 1e-4);
    EXPECT_EQ(succeed("generate --checkpoint " + run + " --max-tokens 30 --temperature 0.5"),
              sample);
  }
}

TEST_F(TrainTest, evaluates_as_often_as_told_on_groups_that_have_nothing_to_do) {
  // Two windows are evaluated, by four groups.
  succeed(4,
          "train --config small.textproto --run run --sequence 1 --eval-every 3 "
          "--set training.eval_windows=2");
  EXPECT_THAT(metric(folder_ / "run", "validation_loss"), SizeIs(4));
  succeed("train --config small.textproto --run one --eval-every 3 --set training.eval_windows=2");
  expect_near(metric(folder_ / "run", "validation_loss"),
              metric(folder_ / "one", "validation_loss"), 1e-4);
}

TEST_F(TrainTest, the_baseline_is_that_of_the_windows_evaluated) {
  const TokenStore store(folder_ / "store.h5");
  const std::vector<std::int64_t> counts = store.histogram(Split::train);
  const auto total = static_cast<double>(store.tokens(Split::train) + store.vocabulary().size());
  double loss = 0;
  for (const std::int32_t target : store.read(Split::validation, 0, 200)) {
    loss -= std::log(static_cast<double>(counts[static_cast<std::size_t>(target)] + 1) / total);
  }
  const double baseline = std::exp(loss / 200);
  EXPECT_GT(std::abs(baseline - unigram_perplexity(store, Split::validation)), 1e-2);

  succeed(2, "train --config small.textproto --run run --set training.eval_windows=2");
  EXPECT_NEAR(metric(folder_ / "run", "validation_unigram_perplexity").at(0), baseline, 1e-9);
  const std::string told = succeed(3, "eval --checkpoint run --windows 2 --sequence 1");
  EXPECT_NEAR(number_behind(told, "unigram baseline"), baseline, 1e-4);
  EXPECT_NEAR(number_behind(succeed("eval --checkpoint run"), "unigram baseline"),
              unigram_perplexity(store, Split::validation), 1e-4);
}

TEST_F(TrainTest, the_time_of_evaluations_and_checkpoints_is_not_that_of_steps) {
  // An evaluation of some thirty windows after each step of one.
  succeed("pack proteins.fasta --out most.h5 --validation-fraction 0.9");
  succeed(
      "train --config small.textproto --data most.h5 --run run --max-steps 30 --eval-every 1 "
      "--save-every 1 --set data.batch=1");
  const std::vector<double> milliseconds = metric(folder_ / "run", "milliseconds_per_step");
  const std::vector<double> wall_time = metric(folder_ / "run", "wall_time");
  ASSERT_THAT(milliseconds, SizeIs(30));
  const double of_steps = std::accumulate(milliseconds.begin() + 1, milliseconds.end(), 0.0) / 1e3;
  EXPECT_LT(of_steps, 0.6 * (wall_time.back() - wall_time.front()));
}

TEST_F(TrainTest, accumulates_lines_into_one_step) {
  succeed("train --config small.textproto --run whole --set data.batch=4");
  succeed(2,
          "train --config small.textproto --run parts --set data.batch=2 "
          "--set optimizer.accumulation=2");
  expect_near(metric(folder_ / "parts", "loss"), metric(folder_ / "whole", "loss"), 1e-4);
}

TEST_F(TrainTest, isolated_records_and_learned_positions_work_on_many_ranks) {
  const std::string options =
      "--set data.isolate_records=true --set model.positions=learned --set model.dropout=0.1 "
      "--set model.norm=rms_norm --set model.mlp=swiglu --set model.tied_embedding=false";
  succeed("train --config small.textproto --run one " + options);
  succeed(3, "train --config small.textproto --run three " + options);
  expect_near(metric(folder_ / "three", "loss"), metric(folder_ / "one", "loss"), 1e-4);
}

TEST_F(TrainTest, a_dry_run_tells_costs_and_writes_nothing) {
  const std::string told = succeed(2, "train --config small.textproto --run run --dry-run");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run"));
  // Two layers, two directions, five segments of 300 tokens, 2 heads * 8 features * 9 numbers.
  const std::int64_t states = 2 * 2 * 5 * (2 * 8 * 9) * 4;
  EXPECT_EQ(number_behind(told, "hands over in a step: "), states / 1000) << told;
  EXPECT_THAT(told, AllOf(HasSubstr("memory a rank"), HasSubstr("activations"),
                          HasSubstr("steps an epoch"), HasSubstr("of gradients")));
  EXPECT_THAT(succeed("train --config small.textproto --run run --dry-run"),
              HasSubstr("in a step: 0 of states, 0 of gradients"));
  // 2^62 steps of three windows are no 64-bit number of windows.
  const std::string endless =
      succeed("train --config small.textproto --dry-run --max-steps 4611686018427387904");
  EXPECT_GT(number_behind(endless, " steps are "), 1e16) << endless;
}

TEST_F(TrainTest, a_dry_run_tells_the_costs_of_every_kind_of_attention) {
  const std::string dry = "train --config small.textproto --dry-run --set training.segment=0 ";
  const std::string masked = dry +
                             "--set model.causal=false --set training.objective=masked_token "
                             "--set model.attention.kind=";
  const auto handed = [&](const std::string& options) {
    const std::string told = succeed(2, options);
    const std::size_t begin = told.find("in a step: ");
    return begin == std::string::npos ? told : told.substr(begin, told.find('\n', begin) - begin);
  };
  // Two layers, two ways forward and two backward, 2 heads; four bytes a number.
  EXPECT_THAT(handed(masked + "elu1"), HasSubstr(": 4,608 of states, "));  // 8 * 9 numbers a head
  EXPECT_THAT(handed(masked + "favor_softmax --set model.attention.features=20"),
              HasSubstr(": 12,800 of states, "));  // 20 * 10
  EXPECT_THAT(handed(masked + "linformer --set model.attention.projected_length=5"),
              HasSubstr(": 5,120 of states, "));  // 5 * 16
  EXPECT_THAT(handed(masked + "identity"), HasSubstr(": 0 of states, "));
  // One layer of each. Keys and values of 150 tokens of width 16 and where their documents begin,
  // forward and again backward.
  EXPECT_THAT(handed(dry + "--set 'model.layer_override=layers: 1 attention { kind: softmax }'"),
              HasSubstr(": 1,152 of states, 40,800 of keys and values, "));

  const auto activations = [&](const std::string& layers) {
    const std::string told =
        succeed(dry + "--set model.reversible=true --set model.layers=" + layers);
    const std::size_t begin = told.find("activations");
    return told.substr(begin, told.find('\n', begin) - begin);
  };
  EXPECT_EQ(activations("2"), activations("12"));
}

TEST_F(TrainTest, a_checkpoint_is_evaluated_on_any_ranks) {
  succeed("train --config small.textproto --run run");
  const double in_training = metric(folder_ / "run", "validation_perplexity").at(0);
  for (const int ranks : {1, 2, 3}) {
    const std::string told = succeed(ranks, "eval --checkpoint run");
    EXPECT_NEAR(number_behind(told, "perplexity"), in_training, 1e-3) << told;
    EXPECT_THAT(told, AllOf(HasSubstr("unigram baseline"), HasSubstr("accuracy")));
  }
  const std::string told = succeed(3, "eval --checkpoint run/step-00000012.h5 --sequence 1");
  EXPECT_NEAR(number_behind(told, "perplexity"), in_training, 1e-3) << told;
  const Outcome empty = longscan("eval --checkpoint run --split test");
  EXPECT_EQ(empty.code, 65);
  EXPECT_THAT(empty.errors, HasSubstr("the split 'test' is empty"));
  const Outcome unknown = longscan("eval --checkpoint run --split valdation");
  EXPECT_EQ(unknown.code, 64);
  EXPECT_THAT(unknown.errors, HasSubstr("did you mean 'validation'?"));
}

TEST_F(TrainTest, a_checkpoint_has_the_random_features_it_was_trained_with) {
  // Drawn anew behind step 10; evaluated and saved behind step 12.
  succeed(
      2,
      "train --config small.textproto --run run --seed 7 --set model.attention.kind=favor_softmax "
      "--set model.attention.features=24 --set model.attention.redraw_interval=5");
  const double in_training = metric(folder_ / "run", "validation_perplexity").at(0);
  EXPECT_LT(in_training, metric(folder_ / "run", "validation_unigram_perplexity").at(0));
  for (const int ranks : {1, 3}) {
    const std::string told = succeed(ranks, "eval --checkpoint run");
    EXPECT_NEAR(number_behind(told, "perplexity"), in_training, 1e-3) << told;
  }
  const std::string sample = succeed("generate --checkpoint run -n 2 --temperature 0");
  EXPECT_EQ(succeed(2, "generate --checkpoint run -n 2 --temperature 0"), sample);
}

TEST_F(TrainTest, reversible_models_train_resume_and_generate) {
  const std::string train =
      "train --config small.textproto --set model.reversible=true --set model.dropout=0.1 ";
  const std::string long_train = train + "--max-steps 60 --save-every 30 --keep-last 0 ";
  succeed(long_train + "--run one");
  const double perplexity = metric(folder_ / "one", "validation_perplexity").at(0);
  EXPECT_LT(perplexity, 0.8 * metric(folder_ / "one", "validation_unigram_perplexity").at(0));
  for (const int ranks : {1, 3}) {
    EXPECT_NEAR(number_behind(succeed(ranks, "eval --checkpoint one"), "perplexity"), perplexity,
                1e-3);
  }
  succeed(long_train + "--run parts --resume=one/step-00000030.h5");
  EXPECT_EQ(parameters_of(folder_ / "parts/step-00000060.h5"),
            parameters_of(folder_ / "one/step-00000060.h5"));
  succeed(2, train + "--run two");
  const std::vector<double> loss = metric(folder_ / "one", "loss");
  expect_near(metric(folder_ / "two", "loss"), {loss.begin(), loss.begin() + 12}, 1e-4);
  const std::string sample = succeed("generate --checkpoint one -n 2 --temperature 0");
  EXPECT_EQ(succeed(2, "generate --checkpoint one -n 2 --temperature 0"), sample);
  // The same weights in the formulas of an ordinary model are another model.
  succeed("train --config small.textproto --run ordinary --set model.dropout=0.1");
  EXPECT_GT(std::abs(metric(folder_ / "ordinary", "loss").back() - loss.at(11)), 1e-3);
}

TEST_F(TrainTest, samples_are_the_same_on_any_ranks) {
  succeed("train --config small.textproto --run run");
  const std::string options =
      "generate --checkpoint run --prompt mkt -n 5 --max-tokens 70 --top-k 10 --top-p 0.9";
  const std::string alone = succeed(options);
  EXPECT_THAT(alone, StartsWith(">sample_1 "));
  EXPECT_THAT(alone, AllOf(HasSubstr("\nMKT"), HasSubstr(">sample_5 "), Not(HasSubstr("<"))));
  EXPECT_EQ(succeed(3, options), alone);
  EXPECT_NE(succeed(options + " --seed 2"), alone);
  succeed(2, options + " --out samples.fasta");
  EXPECT_EQ(contents_of(folder_ / "samples.fasta"), alone);
  succeed("pack samples.fasta --out again.h5");

  const Outcome wrong = longscan(2, "generate --checkpoint run --prompt MK4");
  EXPECT_EQ(wrong.code, 64);
  EXPECT_THAT(wrong.errors, HasSubstr("--prompt:1:3: '4' has no token"));
  EXPECT_EQ(longscan("generate --checkpoint run --temperature=-1").code, 64);
}

TEST_F(TrainTest, texts_are_trained_on_as_bytes) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "The quick brown fox jumps over the lazy dog. ";
  write_text(folder_ / "fox.txt", text);
  succeed("pack fox.txt --out fox.h5 --validation-fraction 0.2");
  succeed("train --config small.textproto --data fox.h5 --run run --max-steps 300");
  EXPECT_THAT(succeed("eval --checkpoint run"), HasSubstr("bits per byte"));
  // Hardly any window begins with a sentence, so the prompt is as long as one.
  const std::string sentence = "The quick brown fox jumps over the lazy dog. ";
  EXPECT_THAT(succeed("generate --checkpoint run --prompt '" + sentence +
                      "The quick' --temperature 0 --max-tokens 10"),
              StartsWith(sentence + "The quick brown fox"));
}

TEST_F(TrainTest, inspect_tells_of_checkpoints_and_runs) {
  succeed("train --config small.textproto --run run --save-every 5 --keep-last 3");
  EXPECT_THAT(succeed("inspect run"),
              AllOf(HasSubstr("a run with 3 checkpoints"), HasSubstr("step-00000010.h5")));
  EXPECT_THAT(succeed("inspect run/step-00000005.h5"),
              AllOf(HasSubstr("step 5, "), HasSubstr("SHA-256 as in its manifest"),
                    HasSubstr("layers.1.mlp.down.weight"), HasSubstr("f32 [16, 24]"),
                    HasSubstr("width: 16")));
}

TEST_F(TrainTest, a_store_without_validation_is_not_evaluated) {
  succeed("pack proteins.fasta --out all.h5 --validation-fraction 0");
  EXPECT_THAT(succeed(2, "train --config small.textproto --data all.h5 --run run --eval-every 2"),
              HasSubstr("nothing is evaluated"));
  EXPECT_THAT(metric(folder_ / "run", "validation_loss"), SizeIs(0));
}

}  // namespace
}  // namespace longscan::test

// A new run that begins with another's parameters: what it takes over, and what it says.
#include <cmath>
#include <map>

#include "io/checkpoint.h"
#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class InitFromTest : public ProgramTest {
 protected:
  void SetUp() override {
    make_corpus();
    succeed(kTrain + "--run first --max-steps 6");
  }

  using Values = std::map<std::string, std::vector<float>>;

  /// The parameters of a run's step by name.
  Values values_of(const std::string& checkpoint) {
    Values values;
    std::vector<NamedTensor> tensors;
    for (const StoredTensor& stored : list_parameters(folder_ / checkpoint)) {
      std::vector<float>& memory = values[stored.name];
      const std::vector<std::int64_t>& shape = stored.shape;
      const std::int64_t columns = shape.size() == 1 ? 1 : shape[1];
      memory.resize(static_cast<std::size_t>(shape[0] * columns));
      tensors.push_back(
          {stored.name, shape.size() == 1
                            ? Tensor::dense(memory.data(), DType::f32, {shape[0]})
                            : Tensor::dense(memory.data(), DType::f32, {shape[0], columns})});
    }
    read_checkpoint(folder_ / checkpoint, tensors);
    return values;
  }

  /// Runs one step so small that it changes nothing, and returns the run's parameters.
  Values first_values(const std::string& run, const std::string& options, int ranks = 1) {
    told_ = succeed(ranks, kTrain + options + " --max-steps 1 --set optimizer.warmup_steps=0 " +
                               "--set optimizer.learning_rate=1e-30 --run " + run);
    return values_of(run + "/step-00000001.h5");
  }

  const std::string kTrain = "train --config small.textproto --set training.segment=0 ";
  std::string told_;
};

TEST_F(InitFromTest, takes_over_all_parameters_where_only_the_formula_is_another) {
  const Values before = values_of("first/step-00000006.h5");
  for (const int ranks : {1, 3}) {
    const Values after =
        first_values("favor" + std::to_string(ranks),
                     "--set model.attention.kind=favor_softmax --set model.attention.features=16 "
                     "--seed 5 --init-from=first",
                     ranks);
    EXPECT_EQ(after, before);
    EXPECT_THAT(told_, AllOf(HasSubstr("27 of 27 parameters kept from first/step-00000006.h5 at "
                                       "step 6\n  kept     embedding.weight [30, 16]\n"),
                             HasSubstr("  kept     layers.0-1.mlp.up.weight [24, 16]\n"),
                             HasSubstr("  kept     norm.bias [16]\n"), Not(HasSubstr("  new ")),
                             Not(HasSubstr("  dropped "))));
  }
}

TEST_F(InitFromTest, begins_with_step_and_data_anew) {
  const std::string told = succeed(kTrain + "--run second --init-from=first/step-00000006.h5");
  EXPECT_EQ(metric(folder_ / "second", "step").size(), 12U);
  EXPECT_EQ(metric(folder_ / "second", "step").at(0), 1);
  EXPECT_EQ(metric(folder_ / "second", "learning_rate").at(0),
            metric(folder_ / "first", "learning_rate").at(0));
  EXPECT_EQ(metric(folder_ / "second", "tokens_seen").at(0),
            metric(folder_ / "first", "tokens_seen").at(0));
  EXPECT_LT(metric(folder_ / "second", "loss").at(0), metric(folder_ / "first", "loss").at(0));
  EXPECT_THAT(told, Not(HasSubstr("resuming")));
}

TEST_F(InitFromTest, is_evaluated_before_its_first_step) {
  const double before = metric(folder_ / "first", "validation_loss").at(0);
  const std::string other = "--set model.attention.kind=relu ";
  for (const int ranks : {1, 2}) {
    const std::string run = "same" + std::to_string(ranks);
    const std::string told =
        succeed(ranks, kTrain + "--run " + run + " --init-from=first --eval-every 8");
    EXPECT_THAT(told, HasSubstr("validation at step 0: loss"));
    EXPECT_EQ(metric(folder_ / run, "step").at(0), 0);
    const std::vector<double> losses = metric(folder_ / run, "validation_loss");
    ASSERT_EQ(losses.size(), 3U) << "before step 1, behind step 8 and at the end";
    EXPECT_NEAR(losses.at(0), before, 1e-5);
  }
  // Another kind with the same parameters, as an evaluation of a checkpoint with them sees it.
  succeed(kTrain + other + "--run other --init-from=first --eval-every 8");
  first_values("untrained", other + "--init-from=first");
  const double switched = metric(folder_ / "other", "validation_loss").at(0);
  EXPECT_NEAR(switched, metric(folder_ / "untrained", "validation_loss").at(0), 1e-5);
  EXPECT_GT(std::abs(switched - before), 1e-4);
  // Who wants no evaluations on the way gets none here, nor does a run that goes on.
  EXPECT_EQ(metric(folder_ / "untrained", "validation_loss").size(), 1U);
  succeed(kTrain + other + "--run other --init-from=first --eval-every 8 --max-steps 14");
  EXPECT_EQ(metric(folder_ / "other", "validation_loss").size(), 4U);
}

TEST_F(InitFromTest, names_what_is_kept_new_and_dropped) {
  const Values before = values_of("first/step-00000006.h5");
  const Values initial = first_values("untied", "--set model.tied_embedding=false");
  const Values after = first_values("mixed", "--set model.tied_embedding=false --init-from=first");
  EXPECT_THAT(told_, AllOf(HasSubstr("27 of 28 parameters kept"),
                           HasSubstr("  kept     embedding.weight [30, 16]\n"),
                           HasSubstr("  new      head.weight [30, 16]\n"),
                           Not(HasSubstr("  kept     head"))));
  EXPECT_EQ(after.at("head.weight"), initial.at("head.weight"));
  EXPECT_EQ(after.at("embedding.weight"), before.at("embedding.weight"));

  first_values("less", "--set model.layers=1 --set model.norm=rms_norm --init-from=mixed");
  EXPECT_THAT(told_, AllOf(HasSubstr("12 of 12 parameters kept from mixed/step-00000001.h5"),
                           HasSubstr("  kept     layers.0.mlp.up.weight [24, 16]\n"),
                           HasSubstr("  dropped  head.weight [30, 16]\n"),
                           HasSubstr("  dropped  layers.1.mlp.up.weight [24, 16]\n"),
                           HasSubstr("  dropped  norm.bias [16]\n")));
}

TEST_F(InitFromTest, linformer_s_projections_are_new) {
  const std::string linformer =
      "--set model.causal=false --set training.objective=masked_token "
      "--set model.attention.kind=linformer --set model.attention.projected_length=7 ";
  const Values before = values_of("first/step-00000006.h5");
  const Values initial = first_values("initial", linformer);
  const Values after = first_values("linformer", linformer + "--init-from=first", 2);
  EXPECT_THAT(told_,
              AllOf(HasSubstr("27 of 31 parameters kept"),
                    HasSubstr("  new      layers.0-1.attention.linformer.key.weight [7, 100]\n"),
                    HasSubstr("  new      layers.0-1.attention.linformer.value.weight [7, 100]\n"),
                    Not(HasSubstr("  dropped "))));
  for (const auto& [name, values] : after) {
    EXPECT_EQ(values, before.contains(name) ? before.at(name) : initial.at(name)) << name;
  }
}

TEST_F(InitFromTest, what_has_another_shape_is_new) {
  first_values("learned", "--set model.positions=learned");
  const Values initial =
      first_values("short", "--set model.positions=learned --set data.window=80");
  const Values after = first_values(
      "mixed", "--set model.positions=learned --set data.window=80 --init-from=learned");
  EXPECT_THAT(told_, HasSubstr("  new      positions.weight [80, 16], which is [100, 16] in the "
                               "checkpoint\n"));
  EXPECT_EQ(after.at("positions.weight"), initial.at("positions.weight"));

  const Outcome outcome = longscan(2, kTrain +
                                          "--run other --init-from=first "
                                          "--set model.width=32 --set model.hidden=40");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors, HasSubstr("no parameter of the checkpoint fits the model"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "other"));
}

TEST_F(InitFromTest, a_run_that_goes_on_does_not_need_it) {
  const std::string train = kTrain + "--run second --init-from=first --save-every 6 ";
  succeed(train);
  const std::string told = succeed(2, train + "--max-steps 14");
  EXPECT_THAT(
      told, AllOf(HasSubstr("--init-from is not needed: the run goes on"),
                  HasSubstr("resuming from second/step-00000012.h5"), Not(HasSubstr("kept from"))));
  const Outcome anew = longscan(train + "--resume=none");
  EXPECT_EQ(anew.code, 64);
  EXPECT_THAT(anew.errors, HasSubstr("holds checkpoints of another run"));
  EXPECT_THAT(succeed(kTrain + "--run third --init-from=first --resume=none"),
              HasSubstr("27 of 27 parameters kept"));
}

TEST_F(InitFromTest, a_run_begins_in_one_place) {
  const Outcome outcome = longscan(2, kTrain + "--run second --init-from=first --resume=first");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors, HasSubstr("--init-from cannot be used with --resume=first"));
}

TEST_F(InitFromTest, another_vocabulary_or_no_checkpoint_is_an_error) {
  write_text(folder_ / "book.txt", std::string(2000, 'a'));
  succeed("pack book.txt --out book.h5");
  const Outcome bytes = longscan(2, kTrain + "--run book --data book.h5 --init-from=first");
  EXPECT_EQ(bytes.code, 64);
  EXPECT_THAT(bytes.errors, HasSubstr("first/step-00000006.h5: the checkpoint's vocabulary is "
                                      "'protein', that of book.h5 is 'bytes'"));
  for (const std::string missing : {"nothing", "nothing.h5", "empty"}) {
    std::filesystem::create_directories(folder_ / "empty");
    const Outcome outcome = longscan(2, kTrain + "--run second --init-from=" + missing);
    EXPECT_EQ(outcome.code, 66) << missing;
    EXPECT_THAT(outcome.errors, HasSubstr(missing));
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "second"));
}

TEST_F(InitFromTest, ranks_must_agree_on_it) {
  const std::string train = program() + " " + kTrain + "--run second";
  const Outcome outcome =
      shell(mpirun() + " -n 1 " + train + " : -n 1 " + train + " --init-from=first");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors, HasSubstr("rank 1 differs in --init-from"));
}

}  // namespace
}  // namespace longscan::test

// The configuration: what is read, how mistakes are explained, what the rules forbid.
#include "io/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "io/atomic_file.h"
#include "io/spelling.h"
#include "kernels/error.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

config::Config parsed(const std::string& text) {
  return configuration_from_text(text, "run.txt");
}

config::Config overridden(const std::vector<std::string>& assignments) {
  config::Config configuration;
  for (const std::string& assignment : assignments) apply_override(configuration, assignment);
  return configuration;
}

/// The message of the usage error that `action` throws.
std::string usage_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
    return error.what();
  }
  return "nothing was thrown";
}

std::string parse_error(const std::string& text) {
  return usage_error_of([&] { parsed(text); });
}

std::string override_error(const std::string& assignment) {
  return usage_error_of([&] { overridden({assignment}); });
}

std::string rule_error(const std::vector<std::string>& assignments) {
  return usage_error_of([&] { validate(overridden(assignments)); });
}

TEST(Configuration, ReadsTextFormatFromAFile) {
  const TemporaryFolder folder;
  write_file(folder / "run.textproto",
             "# a small run\nmodel { width: 96 heads: 3 norm: rms_norm }\n"
             "optimizer { learning_rate: 2e-4 }\ndata { store: \"proteins.h5\" }\n");
  const config::Config configuration = read_configuration(folder / "run.textproto");
  EXPECT_EQ(configuration.model().width(), 96);
  EXPECT_EQ(configuration.model().norm(), config::Model::rms_norm);
  EXPECT_EQ(configuration.optimizer().learning_rate(), 2e-4);
  EXPECT_EQ(configuration.data().store(), "proteins.h5");
  EXPECT_FALSE(configuration.model().has_layers());
}

TEST(Configuration, SaysWhichFileIsMissing) {
  try {
    read_configuration("no/such/run.textproto");
    FAIL() << "read a missing file";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::missing);
    EXPECT_THAT(error.what(), HasSubstr("no/such/run.textproto"));
  }
}

TEST(Configuration, SuggestsTheKeyThatWasMeant) {
  EXPECT_EQ(parse_error("data { window: 64 }\nmodel {\n  layers: 2\n  widht: 96\n}\n"),
            "run.txt:4:3: unknown key 'widht' in 'model', did you mean 'width'?");
  EXPECT_EQ(parse_error("modle { width: 96 }"),
            "run.txt:1:1: unknown key 'modle', did you mean 'model'?");
  EXPECT_EQ(parse_error("model { attention { knid: elu1 } }"),
            "run.txt:1:21: unknown key 'knid' in 'model.attention', did you mean 'kind'?");
}

TEST(Configuration, FindsAKeyThatStandsInTheWrongSection) {
  EXPECT_EQ(parse_error("width: 96"),
            "run.txt:1:1: unknown key 'width', did you mean 'model.width'?");
}

TEST(Configuration, ListsTheKeysWhenNoneIsNear) {
  EXPECT_THAT(parse_error("parallel { gpus: 3 }"),
              HasSubstr("unknown key 'gpus' in 'parallel', choose among 'sequence', 'threads', "
                        "'device', 'communicator'"));
}

TEST(Configuration, ListsTheValuesOfAnEnumeration) {
  EXPECT_EQ(
      parse_error("model {\n  positions: rotery\n}"),
      "run.txt:2:14: 'rotery' is no value of model.positions, which takes one of 'sinusoidal', "
      "'learned', 'rotary', 'none', did you mean 'rotary'?");
}

TEST(Configuration, RefusesWrongTypesAndNumbersOutOfRange) {
  EXPECT_THAT(parse_error("model { width: wide }"),
              AllOf(HasSubstr("run.txt:1:16"), HasSubstr("model { width: wide }")));
  EXPECT_THAT(parse_error("model {\n width: 9223372036854775808\n}"),
              AllOf(HasSubstr("run.txt:2:9"), HasSubstr("width: 9223372036854775808"),
                    HasSubstr("out of range")));
  EXPECT_THAT(parse_error("training { seed: -1 }"), HasSubstr("training { seed: -1 }"));
  EXPECT_THAT(parse_error("model { width: 1.5 }"), HasSubstr("width: 1.5"));
  EXPECT_THAT(parse_error("model { tied_embedding: maybe }"), HasSubstr("tied_embedding"));
  EXPECT_THAT(parse_error("model { width: 96"), HasSubstr("run.txt:1:18"));
}

TEST(Configuration, RefusesAKeyThatIsGivenTwice) {
  EXPECT_EQ(parse_error("model {\n  width: 96\n\twidth: 128\n}"),
            "run.txt:3:2: 'width' is given twice, a key has one value, remove one of the two");
}

TEST(Configuration, OverridesEveryTypeOfKey) {
  const config::Config configuration =
      overridden({"model.width=512", "training.seed=18446744073709551615", "model.dropout=1e-1",
                  "data.isolate_records=true", "data.store=a=b c.h5", "optimizer.schedule=linear",
                  "model.attention.kind=elu1"});
  EXPECT_EQ(configuration.model().width(), 512);
  EXPECT_EQ(configuration.training().seed(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(configuration.model().dropout(), 0.1);
  EXPECT_TRUE(configuration.data().isolate_records());
  EXPECT_EQ(configuration.data().store(), "a=b c.h5");
  EXPECT_EQ(configuration.optimizer().schedule(), config::Optimizer::linear);
  EXPECT_TRUE(configuration.model().attention().has_kind());
}

TEST(Configuration, LetsTheLastOverrideWin) {
  config::Config configuration = parsed("model { width: 96 heads: 3 }");
  apply_override(configuration, "model.width=48");
  apply_override(configuration, "model.width=24");
  EXPECT_EQ(configuration.model().width(), 24);
  EXPECT_EQ(configuration.model().heads(), 3);
}

TEST(Configuration, ExplainsOverridesThatNameNoKey) {
  EXPECT_EQ(override_error("model.widht=5"),
            "--set model.widht=5: unknown key 'widht' in 'model', did you mean 'model.width'?");
  EXPECT_THAT(override_error("optimiser.beta1=0"), HasSubstr("did you mean 'optimizer'?"));
  EXPECT_THAT(override_error("learning_rate=1"), HasSubstr("mean 'optimizer.learning_rate'?"));
  EXPECT_THAT(override_error("model=5"), HasSubstr("'model' is a section, not a key"));
  EXPECT_THAT(override_error("model.attention=5"), HasSubstr("'model.attention.kind'"));
  EXPECT_THAT(override_error("model.width.x=5"), HasSubstr("did you mean 'model.width'?"));
  EXPECT_THAT(override_error("model.width"), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(override_error("=5"), HasSubstr("unknown key ''"));
}

TEST(Configuration, ExplainsOverridesOfTheWrongType) {
  EXPECT_EQ(override_error("model.mlp=swiglue"),
            "--set model.mlp=swiglue: 'swiglue' is no value of model.mlp, which takes one of "
            "'gelu', 'relu', 'swiglu', did you mean 'swiglu'?");
  EXPECT_THAT(override_error("model.width=wide"), HasSubstr("which takes an integer"));
  EXPECT_THAT(override_error("model.width=5x"), HasSubstr("'5x' is no value of model.width"));
  EXPECT_THAT(override_error("model.width=9223372036854775808"), HasSubstr("64 bits"));
  EXPECT_THAT(override_error("training.seed=-1"), HasSubstr("not negative"));
  EXPECT_THAT(override_error("model.dropout="), HasSubstr("which takes a number"));
  EXPECT_THAT(override_error("model.tied_embedding=yes"), HasSubstr("true or false"));
}

TEST(Configuration, ResolvesEveryDefaultExplicitly) {
  const config::Config configuration = resolved(parsed("model { width: 96 }"));
  EXPECT_TRUE(configuration.model().has_layers());
  EXPECT_TRUE(configuration.model().attention().has_kind());
  EXPECT_TRUE(configuration.training().has_folder());
  EXPECT_EQ(configuration.model().width(), 96);
  EXPECT_EQ(configuration.model().positions(), config::Model::rotary);
  EXPECT_EQ(configuration.optimizer().learning_rate(), 1e-3);
}

TEST(Configuration, SurvivesTheWayThroughText) {
  const config::Config configuration =
      overridden({"data.store=a \"quoted\"\npath", "optimizer.learning_rate=0.1234567890123456789",
                  "training.seed=18446744073709551615", "model.norm=rms_norm"});
  const std::string text = to_text(configuration);
  const config::Config again = parsed(text);
  EXPECT_EQ(to_text(again), text);
  EXPECT_EQ(again.optimizer().learning_rate(), 0.1234567890123456789);
  EXPECT_EQ(again.data().store(), "a \"quoted\"\npath");
  EXPECT_THAT(config_differences(configuration, again), IsEmpty());
}

TEST(Configuration, HashesWhatRanksMustAgreeOn) {
  const std::string hash = hash_of(config::Config());
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_EQ(hash, hash_of(parsed("model { width: 256 }"))) << "a default said aloud is the same";
  EXPECT_EQ(hash, hash_of(overridden({"parallel.threads=7"})));
  EXPECT_NE(hash, hash_of(overridden({"parallel.sequence=1"})));
  EXPECT_NE(hash, hash_of(overridden({"model.width=512"})));
}

TEST(Configuration, ListsWhatDiffers) {
  EXPECT_THAT(config_differences(parsed("model { width: 256 mlp: gelu }"),
                                 parsed("model { width: 512 mlp: relu } data { store: \"x\" }")),
              ElementsAre("data.store: \"\" -> \"x\"", "model.width: 256 -> 512",
                          "model.mlp: gelu -> relu"));
}

/// A model of four layers, one or two of which have overrides.
const std::string kHybrid =
    "model {\n"
    "  attention { kind: favor_softmax features: 64 }\n"
    "  layer_override { layers: 3 attention { kind: softmax } }\n"
    "  layer_override { layers: [0, 1] attention { features: 8 orthogonal: false } }\n"
    "}\n";

TEST(Configuration, OverridesReplaceInTheirLayersWhatTheySetAndNothingElse) {
  for (const config::Config& configuration : {parsed(kHybrid), resolved(parsed(kHybrid))}) {
    const std::vector<config::Attention> layers = attention_of_layers(configuration.model());
    ASSERT_EQ(layers.size(), 4u);
    EXPECT_EQ(layers[0].kind(), config::Attention::favor_softmax);
    EXPECT_EQ(layers[0].features(), 8);
    EXPECT_FALSE(layers[1].orthogonal());
    EXPECT_EQ(layers[2].features(), 64);
    EXPECT_TRUE(layers[2].orthogonal());
    EXPECT_EQ(layers[3].kind(), config::Attention::softmax);
    EXPECT_EQ(layers[3].features(), 64);
  }
}

TEST(Configuration, OverridesSurviveTheWayThroughText) {
  const std::string text = to_text(parsed(kHybrid));
  EXPECT_THAT(text, HasSubstr("layers: [0, 1]"));
  EXPECT_EQ(to_text(parsed(text)), text);
  EXPECT_EQ(hash_of(parsed(text)), hash_of(parsed(kHybrid)));
  EXPECT_NE(hash_of(parsed(text)), hash_of(parsed("model { attention { kind: favor_softmax } }")));
}

TEST(Configuration, ListsOfOverridesAreComparedAsAWhole) {
  EXPECT_THAT(
      config_differences(config::Config(), parsed(kHybrid)),
      ElementsAre("model.attention.kind: elu1 -> favor_softmax",
                  "model.attention.features: 256 -> 64",
                  "model.layer_override: [] -> [{ layers: [3] attention { kind: softmax } }, "
                  "{ layers: [0, 1] attention { features: 8 orthogonal: false } }]"));
  EXPECT_THAT(config_differences(parsed(kHybrid), parsed(to_text(parsed(kHybrid)))), IsEmpty());
}

TEST(Configuration, SetReplacesAllOverrides) {
  config::Config configuration = parsed(kHybrid);
  apply_override(configuration, "model.layer_override=layers: 2 attention { kind: identity }");
  ASSERT_EQ(configuration.model().layer_override().size(), 1);
  EXPECT_EQ(configuration.model().layer_override(0).layers(0), 2);
  EXPECT_EQ(configuration.model().attention().features(), 64) << "another key";
  // As config_differences prints it.
  apply_override(configuration,
                 "model.layer_override=[{ layers: [3] attention { kind: softmax } }, "
                 "{ layers: [0, 1] attention { features: 8 orthogonal: false } }]");
  EXPECT_THAT(config_differences(configuration, parsed(kHybrid)), IsEmpty());
  apply_override(configuration, "model.layer_override={ layers: 1 attention { kind: relu } }");
  EXPECT_EQ(configuration.model().layer_override().size(), 1);
  apply_override(configuration, "model.layer_override=");
  EXPECT_EQ(configuration.model().layer_override().size(), 0);
  apply_override(configuration, "model.layer_override=[]");
  EXPECT_EQ(configuration.model().layer_override().size(), 0);
}

TEST(Configuration, ExplainsMistakesInsideAList) {
  EXPECT_EQ(override_error("model.layer_override=layers: 3 atention { kind: softmax }"),
            "--set model.layer_override:1:11: unknown key 'atention' in 'model.layer_override', "
            "did you mean 'attention'?");
  EXPECT_EQ(override_error("model.layer_override=[{ layers: 3 attention { kind: softmx } }]"),
            "--set model.layer_override:1:32: 'softmx' is no value of model.attention.kind, which "
            "takes one of 'elu1', 'relu', 'favor_softmax', 'favor_hyperbolic', 'favor_relu', "
            "'linformer', 'softmax', 'identity', did you mean 'softmax'?");
  EXPECT_EQ(override_error("model.layer_override=layers: 3 kind: softmax"),
            "--set model.layer_override:1:11: unknown key 'kind' in 'model.layer_override', did "
            "you mean 'attention.kind'?");
  EXPECT_THAT(override_error("model.layer_override=3"),
              AllOf(HasSubstr("--set model.layer_override:1:"), HasSubstr("understand '3'")));
  EXPECT_THAT(override_error("model.layer_override=[{ layers: 3 }"),
              HasSubstr("--set model.layer_override:1:"));
  EXPECT_EQ(override_error("model.layer_override.layers=3"),
            "--set model.layer_override.layers=3: 'model.layer_override' is a list, whose entries "
            "have no names, it is set as a whole, as in model.layer_override=\"layers: ... "
            "attention { ... }\"");
  EXPECT_EQ(parse_error("model {\n layer_override { layers: 3 kind: softmax }\n}"),
            "run.txt:2:29: unknown key 'kind' in 'model.layer_override', did you mean "
            "'attention.kind'?");
  EXPECT_THAT(override_error("model.layer_overide=layers: 3"),
              HasSubstr("did you mean 'model.layer_override'?"));
}

TEST(Configuration, SaysWhichOverrideNamesNoLayer) {
  const auto error_of = [](const std::string& overrides) {
    return rule_error({"model.layer_override=" + overrides});
  };
  EXPECT_EQ(error_of("attention { kind: relu }"),
            "configuration: model.layer_override = { attention { kind: relu } } cannot be used, it "
            "must name layers, as in `layers: [1, 3]`");
  EXPECT_EQ(error_of("layers: [3, 4] attention { kind: relu }"),
            "configuration: model.layer_override = { layers: 4 } cannot be used, it must name "
            "layers 0 to 3");
  EXPECT_THAT(error_of("layers: -1 attention { kind: relu }"), HasSubstr("layers 0 to 3"));
  for (const char* twice :
       {"layers: [2, 2] attention { kind: relu }",
        "[{ layers: 2 attention { kind: relu } }, { layers: [1, 2] attention { features: 3 } }]"}) {
    EXPECT_EQ(error_of(twice),
              "configuration: model.layer_override = { layers: 2 } cannot be used, it must name "
              "every layer once at most");
  }
  EXPECT_EQ(error_of("layers: 2"),
            "configuration: model.layer_override = { layers: [2] } cannot be used, it must set "
            "attention");
  EXPECT_THAT(error_of("layers: 2 attention { features: 0 }"),
              HasSubstr("model.layer_override.attention.features = 0 cannot be used"));
}

TEST(Configuration, WhatIsToBePredictedMustNotBeSeen) {
  EXPECT_EQ(rule_error({"model.causal=false"}),
            "configuration: training.objective = next_token cannot be used with model.causal = "
            "false, a token would see the one that it is to predict, set "
            "training.objective=masked_token or model.causal=true");
  EXPECT_NO_THROW(validate(overridden({"model.causal=false", "training.objective=masked_token"})));
  EXPECT_NO_THROW(validate(overridden({"training.objective=masked_token"})));
}

TEST(Configuration, LinformerIsNotCausal) {
  const std::string linformer = "model.attention.kind=linformer";
  EXPECT_EQ(rule_error({linformer}),
            "configuration: layer 0 attends with linformer, which cannot be causal, it mixes all "
            "places of a document before it attends, set model.causal=false, or choose another "
            "kind");
  EXPECT_THAT(rule_error({"model.layer_override=layers: 2 attention { kind: linformer }"}),
              HasSubstr("layer 2 attends with linformer"));
  const std::vector<std::string> masked = {"model.causal=false", "training.objective=masked_token",
                                           linformer};
  EXPECT_NO_THROW(validate(overridden(masked)));
  std::vector<std::string> shared = masked;
  shared.insert(shared.end(), {"model.attention.sharing=layerwise",
                               "model.layer_override=layers: 2 attention { sharing: none }"});
  EXPECT_THAT(rule_error(shared), AllOf(HasSubstr("layer 2 attends with linformer, whose "),
                                        HasSubstr("layerwise all layers of this kind")));
  shared.back() = "model.layer_override=layers: 3 attention { projected_length: 3 }";
  EXPECT_THAT(rule_error(shared), HasSubstr("layer 3 attends with linformer"));
  shared.back() = "model.layer_override=layers: 3 attention { kind: softmax }";
  EXPECT_NO_THROW(validate(overridden(shared)));
  std::vector<std::string> large = masked;
  large.insert(large.end(), {"data.window=1099511627776", "model.attention.projected_length=2"});
  EXPECT_THAT(rule_error(large), HasSubstr("projected_length = 2 cannot be used, it must keep a "
                                           "projection of 2 rows and data.window"));
}

TEST(Configuration, SegmentsNeedAStateThatLooksBack) {
  const std::string segment = "training.segment=1024";
  for (const char* kind :
       {"elu1", "relu", "favor_softmax", "favor_hyperbolic", "favor_relu", "identity"}) {
    EXPECT_NO_THROW(validate(overridden({segment, std::string("model.attention.kind=") + kind})));
  }
  EXPECT_EQ(rule_error({segment, "model.layer_override=layers: 2 attention { kind: softmax }"}),
            "configuration: layer 2 attends with softmax, which takes the line in one segment, "
            "segments hand on a state that looks back, and it needs all tokens at once, set "
            "training.segment=0, or choose another kind");
  const std::vector<std::string> masked = {segment, "model.causal=false",
                                           "training.objective=masked_token"};
  EXPECT_THAT(rule_error(masked),
              AllOf(HasSubstr("layer 0 attends with elu1, which takes the line in one segment "
                              "where model.causal is false"),
                    HasSubstr("it looks ahead as well")));
  std::vector<std::string> fitting = masked;
  fitting.emplace_back("model.attention.kind=identity");
  EXPECT_NO_THROW(validate(overridden(fitting))) << "hands on nothing";
  fitting.back() = "data.window=1024";
  EXPECT_NO_THROW(validate(overridden(fitting))) << "there is one segment";
  fitting.emplace_back("data.batch=2");
  EXPECT_THAT(rule_error(fitting), HasSubstr("one segment"));
  EXPECT_THAT(rule_error({segment, "model.causal=false", "training.objective=masked_token",
                          "model.attention.kind=linformer"}),
              HasSubstr("layer 0 attends with linformer, which takes the line in one segment"));
}

TEST(Configuration, AcceptsItsOwnDefaultsAndWhatIsOdd) {
  EXPECT_NO_THROW(validate(config::Config()));
  EXPECT_NO_THROW(validate(resolved(config::Config())));
  EXPECT_NO_THROW(validate(
      overridden({"model.width=43", "model.heads=43", "model.hidden=1", "model.positions=learned",
                  "training.segment=17", "optimizer.clip_norm=0", "optimizer.beta1=0"})));
}

TEST(Configuration, NamesTheKeyTheValueAndTheRule) {
  EXPECT_EQ(rule_error({"model.heads=3"}),
            "configuration: model.heads = 3 cannot be used, it must divide model.width = 256");
  EXPECT_THAT(
      rule_error({"model.width=12", "model.heads=4"}),
      HasSubstr("model.positions = rotary cannot be used, it must have heads of an even size, "
                "model.width / model.heads is 3"));
  EXPECT_THAT(rule_error({"model.width=9", "model.heads=3", "model.positions=sinusoidal"}),
              HasSubstr("an even model.width, which is 9"));
  EXPECT_THAT(rule_error({"data.batch=1099511627776"}), HasSubstr("data.window (= 4096)"));
  EXPECT_THAT(rule_error({"training.folder="}), HasSubstr("training.folder"));
}

/// An override that breaks a rule; the message must name its key.
class Forbidden : public testing::TestWithParam<const char*> {};

TEST_P(Forbidden, ValueIsRefusedByName) {
  const std::string assignment = GetParam();
  const std::string message = rule_error({assignment});
  EXPECT_THAT(message, HasSubstr(assignment.substr(0, assignment.find('=')) + " = "));
  EXPECT_THAT(message, HasSubstr("it must "));
}

INSTANTIATE_TEST_SUITE_P(
    Configuration, Forbidden,
    testing::Values("data.window=0", "data.window=9223372036854775807", "data.batch=0",
                    "model.width=0", "model.width=-8", "model.layers=0", "model.heads=0",
                    "model.hidden=0", "model.hidden=9223372036854775807", "model.dropout=1",
                    "model.dropout=-0.1", "model.dropout=nan", "model.attention.features=0",
                    "model.attention.features=1048577", "model.attention.redraw_interval=-1",
                    "model.attention.projected_length=0", "optimizer.learning_rate=0",
                    "optimizer.learning_rate=inf", "optimizer.learning_rate=nan",
                    "optimizer.beta1=1", "optimizer.beta2=-0.5", "optimizer.epsilon=0",
                    "optimizer.weight_decay=-1", "optimizer.warmup_steps=-1",
                    "optimizer.final_fraction=1.5", "optimizer.clip_norm=-1",
                    "optimizer.clip_norm=inf", "optimizer.accumulation=0", "training.max_steps=-1",
                    "training.segment=-1", "training.log_every=-1", "training.eval_every=-1",
                    "training.eval_windows=-1", "training.save_every=-1", "training.keep_last=-1",
                    "parallel.sequence=-1", "parallel.threads=-1"));

TEST(Spelling, CountsSlipsOfTheHand) {
  EXPECT_EQ(edit_distance("width", "width"), 0u);
  EXPECT_EQ(edit_distance("widht", "width"), 1u);
  EXPECT_EQ(edit_distance("wdth", "width"), 1u);
  EXPECT_EQ(edit_distance("Learning-Rate", "learning_rate"), 0u);
  EXPECT_EQ(edit_distance("", "width"), 5u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(Spelling, KeepsSilentWhenNothingIsNear) {
  const std::vector<std::string> names = {"width", "heads"};
  EXPECT_EQ(nearest_name("haeds", names), "heads");
  EXPECT_EQ(nearest_name("temperature", names), "");
  EXPECT_THAT(suggestion("temperature", names), Not(HasSubstr("did you mean")));
}

}  // namespace
}  // namespace longscan

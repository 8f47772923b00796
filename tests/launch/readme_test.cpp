// What the README shows in Python works: its reader opens a checkpoint, and its formulas, in numpy,
// give the loss that `longscan eval` gives.
#include <sstream>

#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::HasSubstr;

class ReadmeTest : public ProgramTest {
 protected:
  // Debian's own Python, which has the packages that the project's script installs.
  static constexpr const char* kPython = "/usr/bin/python3 ";

  static double loss_in(const std::string& output) {
    const std::size_t found = output.find("\nloss ");
    EXPECT_NE(found, std::string::npos) << output;
    return found == std::string::npos ? 0 : std::stod(output.substr(found + 6));
  }
};

TEST_F(ReadmeTest, ItsReaderPrintsTheParametersOfARun) {
  make_corpus();
  succeed("train --config small.textproto --run runs/mine --save-every 5");
  const std::string readme = contents_of(LONGSCAN_SOURCE_DIR "/README.md");
  const std::string fence = "```python\n";
  const std::size_t begin = readme.find(fence);
  ASSERT_NE(begin, std::string::npos) << "the README shows no Python";
  const std::size_t end = readme.find("```", begin + fence.size());
  write_text(folder_ / "reader.py",
             readme.substr(begin + fence.size(), end - begin - fence.size()));
  const Outcome outcome = shell(std::string(kPython) + "reader.py");
  ASSERT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("step 12\n"));
  const std::vector<StoredTensor> parameters =
      list_parameters(folder_ / "runs/mine/step-00000012.h5");
  for (const StoredTensor& stored : parameters) {
    std::ostringstream line;
    line << stored.name << " (";
    for (std::size_t i = 0; i < stored.shape.size(); ++i) {
      line << (i > 0 ? ", " : "") << stored.shape[i];
    }
    line << (stored.shape.size() == 1 ? ",) float32\n" : ") float32\n");
    EXPECT_THAT(outcome.output, HasSubstr(line.str()));
  }
}

TEST_F(ReadmeTest, FormulasGiveTheLossOfACheckpoint) {
  make_corpus();
  const std::string script =
      std::string(kPython) + "'" LONGSCAN_SOURCE_DIR "/tests/launch/readme_formulas.py' ";
  int run = 0;
  for (const std::string model :
       {"model.positions=rotary",
        "model.positions=sinusoidal --set model.mlp=swiglu --set model.norm=rms_norm",
        "model.positions=learned --set model.mlp=relu --set model.tied_embedding=false",
        "model.positions=none --set model.heads=4",
        "model.positions=learned --set data.isolate_records=true",
        "model.attention.kind=relu --set 'model.layer_override=layers: 1 attention { kind: elu1 }'",
        "training.objective=masked_token --set data.isolate_records=true",
        "training.objective=masked_token --set model.causal=false --set training.segment=0 "
        "--set model.attention.kind=relu",
        "training.objective=masked_token --set model.causal=false --set training.segment=0 "
        "--set model.attention.kind=linformer --set model.attention.projected_length=20 "
        "--set model.attention.sharing=none "
        "--set 'model.layer_override=layers: 0 attention { sharing: key_value }'",
        "training.objective=masked_token --set model.causal=false --set training.segment=0 "
        "--set model.attention.kind=linformer --set model.attention.projected_length=20 "
        "--set model.attention.sharing=layerwise --set data.isolate_records=true",
        "model.attention.kind=favor_softmax --set model.attention.features=21 "
        "--set model.attention.redraw_interval=30 --seed 123456789012345 "
        "--set 'model.layer_override=layers: 1 attention { kind: favor_relu }'",
        "model.attention.kind=favor_hyperbolic --set model.attention.features=9 "
        "--set model.attention.row_norms=regularized --set model.attention.redraw_interval=0 "
        "--set 'model.layer_override=layers: 1 attention { orthogonal: false }'",
        "training.segment=0 --set model.attention.kind=softmax --set data.isolate_records=true",
        "training.objective=masked_token --set model.causal=false --set training.segment=0 "
        "--set model.attention.kind=softmax --set model.positions=learned",
        "model.reversible=true --set model.layers=3",
        "training.objective=masked_token --set model.causal=false --set training.segment=0 "
        "--set model.reversible=true --set model.attention.kind=favor_relu "
        "--set model.attention.features=20 --set data.isolate_records=true",
        "training.segment=70 --set model.positions=sinusoidal "
        "--set 'model.layer_override=layers: 1 attention { kind: identity }'"}) {
    const std::string folder = "run" + std::to_string(++run);
    // Enough steps for a wrong place or a wrong first token to show in the loss.
    succeed("train --config small.textproto --max-steps 100 --run " + folder + " --set " + model);
    const std::string told = succeed("eval --checkpoint " + folder + " --windows 2");
    const Outcome formulas = shell(script + folder + "/step-00000100.h5 store.h5");
    ASSERT_EQ(formulas.code, 0) << formulas.errors;
    // Training has moved the loss well away from that of a model that knows nothing, log 30 = 3.40.
    EXPECT_LT(loss_in(told), 3.3) << model;
    EXPECT_NEAR(std::stod(formulas.output), loss_in(told), 1e-4) << model;
  }
}

}  // namespace
}  // namespace longscan::test

// Models on GPUs: what the CPU computes, with every kind of attention, however the line is cut.
#include <gtest/gtest.h>

#include <vector>

#include "model/trainer.h"
#include "tests/support/attention_forms.h"
#include "tests/support/on_cuda.h"
#include "tests/support/trained_once.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 13;

class CudaModel : public ::testing::TestWithParam<AttentionForm> {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << find_cuda_devices().why_none;
  }
  static ModelOptions options(DType dtype) {
    ModelOptions model = small_model(GetParam(), kVocabulary);
    model.width = 32;
    model.dtype = dtype;
    return model;
  }
};

Trained on_gpu(const ModelOptions& model, const Line& line, int ranks, int segments,
               double dropout = 0) {
  return train_once_on([] { return Device::cuda(0); }, model, line, ranks, segments, dropout);
}

TEST_P(CudaModel, LossAndGradientsAreTheCpus) {
  const Line line = random_line(131, kVocabulary, {40, 41, 97});
  const Trained exact = train_once(options(DType::f64), line, 1, 1);
  const Trained gpu = on_gpu(options(DType::f32), line, 1, 1);
  EXPECT_EQ(gpu.totals.tokens, exact.totals.tokens);
  EXPECT_NEAR(gpu.totals.loss / exact.totals.loss, 1, 1e-5);
  EXPECT_LT(difference(gpu, exact), 1e-3);
}

TEST_P(CudaModel, RanksSegmentsAndMasksChangeNothing) {
  Line line = random_line(103, kVocabulary, {1, 40, 52, 53});
  for (std::size_t i = 0; i < line.targets.size(); ++i) line.attended.push_back(i % 5 == 2 ? 0 : 1);
  const ModelOptions model = options(DType::f32);
  const Trained whole = train_once(options(DType::f64), line, 1, 1, 1, 0.2);
  for (const int ranks : {1, 2, 3}) {
    const int segments = model.takes_segments() ? ranks : 1;
    const Trained cut = on_gpu(model, line, ranks, segments, 0.2);
    EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-5) << ranks;
    EXPECT_LT(difference(cut, whole), 1e-3) << ranks << " ranks";
  }
}

std::vector<double> losses_of(const ModelOptions& model, Device device, const Line& line,
                              int steps) {
  std::vector<double> losses;
  run_ranks(1, [&](Communicator& world) {
    Mesh mesh(world, 0);
    Trainer trainer(model, {.learning_rate = 2e-3, .warmup_steps = steps / 2, .total_steps = steps},
                    1, device, mesh);
    const RankLine mine = shards_of(line, 1, 1, 0);
    for (int step = 0; step < steps; ++step) {
      const LossTotals totals = trainer.step(mine.shards).totals;
      losses.push_back(totals.loss / totals.tokens);
    }
  });
  return losses;
}

TEST_P(CudaModel, StepsStayTogether) {
  const Line line = random_line(131, kVocabulary, {40, 41, 97});
  const int steps = is_stand_in(Device::cuda(0)) ? 5 : 20;
  const std::vector<double> cpu = losses_of(options(DType::f32), Device::cpu(1), line, steps);
  const std::vector<double> gpu = losses_of(options(DType::f32), Device::cuda(0), line, steps);
  const std::vector<double> rounded = losses_of(options(DType::bf16), Device::cuda(0), line, steps);
  EXPECT_LT(cpu.back(), cpu.front() - 0.002 * steps);
  for (std::size_t step = 0; step < cpu.size(); ++step) {
    EXPECT_NEAR(gpu[step], cpu[step], 1e-4) << step;
    EXPECT_NEAR(rounded[step], cpu[step], 2e-2) << step;
  }
}

TEST_P(CudaModel, ReversibleLayersAndSwigluAreTheCpusToo) {
  const auto special = [](ModelOptions model) {
    model.reversible = true;
    model.mlp = MlpKind::swiglu;
    model.norm = NormKind::rms_norm;
    model.positions = Positions::learned;
    model.tied_embedding = false;
    return model;
  };
  const Line line = random_line(70, kVocabulary, {40});
  const Trained exact = train_once(special(options(DType::f64)), line, 1, 1);
  const Trained gpu = on_gpu(special(options(DType::f32)), line, 1, 1);
  EXPECT_NEAR(gpu.totals.loss / exact.totals.loss, 1, 1e-5);
  EXPECT_LT(difference(gpu, exact), 3e-3);  // activations come from the streams' ends, rounded anew
}

INSTANTIATE_TEST_SUITE_P(All, CudaModel, ::testing::ValuesIn(all_attention_forms()),
                         [](const auto& info) { return name_of(info.param); });

// Losses of steps on a line in three segments, then on one in two whose second looks like the
// first line's second, but is its last.
std::vector<double> losses_over_segments(Device device) {
  constexpr std::int64_t kSegment = 40;
  std::vector<double> losses;
  run_ranks(1, [&](Communicator& world) {
    Mesh mesh(world, 0);
    ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
    model.dtype = DType::f32;
    Trainer trainer(model, {.learning_rate = 1e-2, .warmup_steps = 1, .total_steps = 8}, 1, device,
                    mesh);
    for (const int segments : {3, 3, 3, 3, 2, 2, 2, 2}) {
      const Line line = random_line(segments * kSegment, kVocabulary, {2 * kSegment},
                                    static_cast<std::uint64_t>(segments));
      std::vector<OwnedShard> owned;
      std::vector<Shard> shards;
      for (int i = 0; i < segments; ++i) owned.emplace_back(line, i * kSegment, (i + 1) * kSegment);
      for (const OwnedShard& shard : owned) shards.push_back(shard.shard);
      const LossTotals totals = trainer.step(shards).totals;
      losses.push_back(totals.loss / totals.tokens);
    }
  });
  return losses;
}

TEST(Cuda, RecordedVisitsAreNotTakenForOthers) {
  if (!has_cuda()) GTEST_SKIP();
  const std::vector<double> cpu = losses_over_segments(Device::cpu(1));
  const std::vector<double> gpu = losses_over_segments(Device::cuda(0));
  for (std::size_t step = 0; step < cpu.size(); ++step) EXPECT_NEAR(gpu[step], cpu[step], 1e-4);
}

// Losses of one line, each time with other dropout.
std::vector<double> losses_with(Device device, ModelOptions model,
                                const std::vector<DropoutPlan>& plans) {
  std::vector<double> losses;
  run_ranks(1, [&](Communicator& group) {
    model.dtype = DType::f32;
    Parameters parameters(model, device);
    Parameters gradient(model, device, ParameterUse::sums);
    draw_large_weights(parameters);
    Transformer transformer(model, device, group);
    const Line line = random_line(90, kVocabulary, {40});
    const RankLine mine = shards_of(line, 2, 1, 0);
    const DeviceNumbers<double> totals(device, {0, 0, 0});
    double before = 0;
    for (const DropoutPlan& plan : plans) {
      transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), mine.shards,
                        plan);
      losses.push_back((totals.numbers()[0] - before) / 90);
      before = totals.numbers()[0];
    }
  });
  return losses;
}

TEST(Cuda, RecordedVisitsDropWhatTheirLineDoes) {
  if (!has_cuda()) GTEST_SKIP();
  std::vector<DropoutPlan> plans;
  for (const DropoutPlan& kind :
       {DropoutPlan{.rate = 0.3, .seed = 1}, DropoutPlan{}, DropoutPlan{.rate = 0.3, .seed = 2},
        DropoutPlan{.rate = 0.1, .seed = 2}, DropoutPlan{.rate = 0.3, .seed = 1}}) {
    for (std::uint64_t line = 0; line < 4; ++line) {
      plans.push_back({.rate = kind.rate, .seed = kind.seed, .line = plans.size() + (line << 40)});
    }
  }
  ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
  for (const bool reversible : {false, true}) {
    model.reversible = reversible;
    const std::vector<double> cpu = losses_with(Device::cpu(1), model, plans);
    const std::vector<double> gpu = losses_with(Device::cuda(0), model, plans);
    for (std::size_t i = 0; i < plans.size(); ++i) EXPECT_NEAR(gpu[i], cpu[i], 1e-4) << i;
    // Else the test would not see one mask taken for another.
    for (std::size_t i = 1; i < plans.size(); ++i) {
      if (plans[i].rate == 0) continue;
      EXPECT_GT(std::abs(cpu[i] - cpu[i - 1]), 1e-3) << i;
    }
  }
}

TEST(Cuda, RefusesDoubleAndTheCpuBf16) {
  if (!has_cuda()) GTEST_SKIP();
  run_ranks(1, [&](Communicator& group) {
    ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
    Device gpu = Device::cuda(0);
    expect_error(ErrorKind::usage, "GPUs compute in f32 or bf16",
                 [&] { Transformer(model, gpu, group); });
    model.dtype = DType::bf16;
    Device cpu = Device::cpu(1);
    expect_error(ErrorKind::usage, "the CPU computes in f32",
                 [&] { Transformer(model, cpu, group); });
  });
}

TEST(Cuda, BadTokensAreNamed) {
  if (!has_cuda()) GTEST_SKIP();
  ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
  model.dtype = DType::f32;
  Line line = random_line(70, kVocabulary, {});
  line.tokens[33] = 99;
  expect_error(ErrorKind::data, "index 99", [&] { on_gpu(model, line, 1, 1); });
}

TEST(Cuda, BadTokensMoveNoParameters) {
  if (!has_cuda()) GTEST_SKIP();
  run_ranks(1, [&](Communicator& world) {
    Device gpu = Device::cuda(0);
    Mesh mesh(world, 0);
    ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
    model.dtype = DType::f32;
    Trainer trainer(model, {.warmup_steps = 0}, 1, gpu, mesh);
    const auto before = on_host<float>(gpu, trainer.parameters().flat());
    Line line = random_line(70, kVocabulary, {});
    line.targets[33] = 99;
    const RankLine mine = shards_of(line, 1, 1, 0);
    expect_error(ErrorKind::data, "target 99", [&] { trainer.step(mine.shards); });
    EXPECT_EQ(on_host<float>(gpu, trainer.parameters().flat()), before);
  });
}

}  // namespace
}  // namespace longscan::test

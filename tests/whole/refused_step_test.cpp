// A step that is refused leaves the model and the optimizer as they were, and the next one is as if
// it had not been.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "model/trainer.h"
#include "tests/support/attention_forms.h"
#include "tests/support/device_ranks.h"
#include "tests/support/on_cuda.h"
#include "tests/support/trained_once.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 13;

struct Computation {
  std::string name;
  DType dtype;
  bool on_gpu;
};

void PrintTo(const Computation& computation, std::ostream* out) {
  *out << computation.name;
}

// All that a step changes, in host memory.
std::vector<std::vector<float>> numbers_of(Trainer& trainer, Device& device) {
  std::vector<std::vector<float>> numbers;
  for (const Parameters* parameters : {&trainer.parameters(), &trainer.optimizer().first_moment(),
                                       &trainer.optimizer().second_moment()}) {
    numbers.push_back(on_host<float>(device, parameters->flat()));
  }
  const Tensor rounded = trainer.parameters().rounded();
  if (!rounded.present()) return numbers;
  HostCopy copy;
  const Tensor wide = copy.of(device, rounded);
  numbers.emplace_back(wide.as<float>(), wide.as<float>() + wide.size());
  return numbers;
}

class RefusedStep : public testing::TestWithParam<Computation> {
 protected:
  void SetUp() override {
    if (GetParam().on_gpu && !has_cuda()) GTEST_SKIP() << find_cuda_devices().why_none;
  }

  /// Two steps, between which `refused(trainer, device)` fails. Returns what they leave.
  std::vector<std::vector<float>> train(const std::function<void(Trainer&, Device&)>& refused) {
    std::vector<std::vector<float>> result;
    run_ranks(1, [&](Communicator& world) {
      Device device = GetParam().on_gpu ? Device::cuda(0) : Device::cpu(1);
      Mesh mesh(world, 0);
      ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
      model.dtype = GetParam().dtype;
      Trainer trainer(model, {.learning_rate = 1e-2, .warmup_steps = 1, .total_steps = 8}, 1,
                      device, mesh);
      const Line tokens = good_line();
      const RankLine line = shards_of(tokens, 1, 1, 0);
      trainer.step(line.shards);
      const std::vector<std::vector<float>> before = numbers_of(trainer, device);
      refused(trainer, device);
      EXPECT_EQ(numbers_of(trainer, device), before);
      const StepReport report = trainer.step(line.shards);
      EXPECT_EQ(report.totals.tokens, targets_of(tokens));
      EXPECT_EQ(trainer.steps(), 2);
      result = numbers_of(trainer, device);
    });
    return result;
  }

  static Line good_line() { return random_line(70, kVocabulary, {33}); }
  static Line line_without_targets() {
    Line line = good_line();
    line.targets.assign(line.targets.size(), -1);
    return line;
  }
  static double targets_of(const Line& line) {
    return static_cast<double>(line.targets.size()) -
           static_cast<double>(std::count(line.targets.begin(), line.targets.end(), -1));
  }
};

TEST_P(RefusedStep, WithNothingToPredictChangesNothing) {
  const auto refused = [](Trainer& trainer, Device&) {
    const Line tokens = line_without_targets();
    const RankLine line = shards_of(tokens, 1, 1, 0);
    expect_error(ErrorKind::data, "step 2 has nothing to predict",
                 [&] { trainer.step(line.shards); });
  };
  EXPECT_EQ(train(refused), train([](Trainer&, Device&) {}));
}

TEST_P(RefusedStep, WhoseGradientIsNotFiniteChangesNothing) {
  const auto refused = [](Trainer& trainer, Device& device) {
    // Infinite weights of the last norm, until the step is over.
    const Tensor weight = trainer.parameters().weights().norm.weight;
    const auto before = on_host<float>(device, weight);
    const std::vector<float> infinite(before.size(), std::numeric_limits<float>::infinity());
    device.upload(weight, infinite.data());
    const Line tokens = good_line();
    const RankLine line = shards_of(tokens, 1, 1, 0);
    expect_error(ErrorKind::data, "the gradient of step 2 is not finite",
                 [&] { trainer.step(line.shards); });
    EXPECT_EQ(on_host<float>(device, weight), infinite);
    device.upload(weight, before.data());
  };
  EXPECT_EQ(train(refused), train([](Trainer&, Device&) {}));
}

/// The CPU tells of bad data before the step's end.
class RefusedStepOfGpus : public RefusedStep {};

TEST_P(RefusedStepOfGpus, WithBadDataChangesNothing) {
  const auto refused = [](Trainer& trainer, Device&) {
    Line tokens = good_line();
    tokens.targets[20] = 99;
    const RankLine line = shards_of(tokens, 1, 1, 0);
    expect_error(ErrorKind::data, "target 99", [&] { trainer.step(line.shards); });
  };
  EXPECT_EQ(train(refused), train([](Trainer&, Device&) {}));
}

TEST_P(RefusedStepOfGpus, OfBadDataOnOneRankIsRefusedOnAll) {
  const std::vector<Carrier> carriers = carriers_of_threads();
  if (std::count(carriers.begin(), carriers.end(), Carrier::nccl) == 0) {
    GTEST_SKIP() << "for NCCL between threads";
  }
  constexpr int kRanks = 2;
  run_device_ranks(kRanks, Carrier::nccl, [&](Communicator& world, Device& gpu) {
    for (const int sequence : {1, kRanks}) {
      Mesh mesh(world, sequence);
      ModelOptions model = small_model({AttentionKind::elu1, true}, kVocabulary);
      model.dtype = GetParam().dtype;
      Trainer trainer(model, {.warmup_steps = 0}, 1, gpu, mesh);
      const auto before = numbers_of(trainer, gpu);
      Line tokens = good_line();
      if (world.rank() == 1) tokens.tokens[60] = 99;
      const RankLine line = shards_of(tokens, 1, mesh.sequence_size(), mesh.sequence_index());
      expect_error(ErrorKind::data, "index 99", [&] { trainer.step(line.shards); });
      EXPECT_EQ(numbers_of(trainer, gpu), before);
      tokens.tokens[60] = 1;
      const RankLine good = shards_of(tokens, 1, mesh.sequence_size(), mesh.sequence_index());
      EXPECT_EQ(trainer.step(good.shards).totals.tokens,
                targets_of(tokens) * kRanks / mesh.sequence_size());
    }
  });
}

constexpr auto name_of_computation = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Devices, RefusedStep,
                         testing::Values(Computation{"cpu_f32", DType::f32, false},
                                         Computation{"cuda_f32", DType::f32, true},
                                         Computation{"cuda_bf16", DType::bf16, true}),
                         name_of_computation);
INSTANTIATE_TEST_SUITE_P(Devices, RefusedStepOfGpus,
                         testing::Values(Computation{"cuda_f32", DType::f32, true},
                                         Computation{"cuda_bf16", DType::bf16, true}),
                         name_of_computation);

}  // namespace
}  // namespace longscan::test

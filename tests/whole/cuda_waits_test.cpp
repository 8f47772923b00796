// What the host does in a training step on a GPU: it waits for nothing but the report, and does not
// allocate.
#include <gtest/gtest.h>

#include <vector>

#include "model/trainer.h"
#include "tests/cuda_on_cpu/host_calls.h"
#include "tests/support/attention_forms.h"
#include "tests/support/device_ranks.h"
#include "tests/support/lines.h"

namespace longscan::test {
namespace {

using cuda_on_cpu::host_calls;
using cuda_on_cpu::HostCalls;

constexpr std::int32_t kVocabulary = 13;
constexpr int kLines = 3;
constexpr int kSteps = 3;

ModelOptions model_on_gpu(AttentionKind kind, double dropout) {
  ModelOptions model = small_model({kind, true}, kVocabulary);
  model.dropout = dropout;
  model.dtype = DType::f32;
  return model;
}

HostCalls operator-(const HostCalls& after, const HostCalls& before) {
  return {.waits = after.waits - before.waits,
          .allocations = after.allocations - before.allocations,
          .graphs = after.graphs - before.graphs};
}

// What ranks have called in the lines of a step and at its end, together.
struct StepCalls {
  HostCalls lines;
  HostCalls end;
};

// In the last of some steps of several lines, each rank's in so many segments.
StepCalls calls_of_step(Communicator& world, Device& device, const ModelOptions& model,
                        int sequence, int segments) {
  StepCalls calls;
  Mesh mesh(world, sequence);
  Trainer trainer(model, {.warmup_steps = 1, .total_steps = kSteps}, 1, device, mesh);
  for (int step = 0; step < kSteps; ++step) {
    world.barrier();
    const HostCalls begin = host_calls();
    for (int line = 0; line < kLines; ++line) {
      const auto seed = static_cast<std::uint64_t>(kLines * step + line);
      const Line tokens = random_line(40, kVocabulary, {17}, seed);
      const RankLine mine =
          shards_of(tokens, segments, mesh.sequence_size(), mesh.sequence_index());
      trainer.accumulate(mine.shards);
    }
    world.barrier();
    const HostCalls lines_end = host_calls();
    world.barrier();
    trainer.update();
    world.barrier();
    calls = {.lines = lines_end - begin, .end = host_calls() - lines_end};
    world.barrier();
  }
  return calls;
}

TEST(CudaWaits, OfAStepAreOneForItsReport) {
  for (const AttentionKind kind : {AttentionKind::elu1, AttentionKind::favor_softmax}) {
    for (const double dropout : {0.0, 0.1}) {
      for (const int segments : {1, 2}) {
        run_ranks(1, [&](Communicator& world) {
          Device gpu = Device::cuda(0);
          const StepCalls calls =
              calls_of_step(world, gpu, model_on_gpu(kind, dropout), 0, segments);
          EXPECT_EQ(calls.lines.waits, 0);
          EXPECT_EQ(calls.lines.allocations, 0);
          // Each segment is visited once there and once back, the last one both at once.
          EXPECT_EQ(calls.lines.graphs, kLines * (2 * segments - 1));
          EXPECT_EQ(calls.end.waits, 1);
          EXPECT_EQ(calls.end.allocations, 0);
        });
      }
    }
  }
}

TEST(CudaWaits, OfRanksOverNcclAreThoseForTheirReports) {
  if (!has_nccl()) GTEST_SKIP() << "this build has no NCCL";
  constexpr int kRanks = 2;
  for (const int sequence : {1, kRanks}) {
    run_device_ranks(kRanks, Carrier::nccl, [&](Communicator& world, Device& gpu) {
      const StepCalls calls =
          calls_of_step(world, gpu, model_on_gpu(AttentionKind::elu1, 0.1), sequence, 2);
      EXPECT_EQ(calls.lines.waits, 0);
      EXPECT_EQ(calls.lines.allocations, 0);
      // A host that watches NCCL asks whether the step has ended, and then whether its copy has.
      EXPECT_EQ(calls.end.waits, 2 * kRanks);
      EXPECT_EQ(calls.end.allocations, 0);
    });
  }
}

TEST(CudaWaits, OfUploadsAreForTheLineBeforeTheLast) {
  Device gpu = Device::cuda(0);
  constexpr std::int64_t kNumbers = 1'300'000;  // positions of 10 MB, and half of that twice
  std::vector<Buffer> memory;
  for (const std::int64_t size : {4, 4, 8}) memory.push_back(gpu.allocate(size * kNumbers));
  const std::vector<std::int32_t> tokens(kNumbers, 3);
  std::vector<std::int64_t> positions(kNumbers);
  HostCalls last;
  for (int line = 0; line < 6; ++line) {
    const HostCalls begin = host_calls();
    for (int i = 0; i < 2; ++i) {
      gpu.upload(Tensor::dense(memory[i].data(), DType::i32, {kNumbers}), tokens.data());
    }
    positions.assign(kNumbers, line);
    gpu.upload(Tensor::dense(memory[2].data(), DType::i64, {kNumbers}), positions.data());
    last = host_calls() - begin;
    EXPECT_LE(last.waits, 1) << line;  // of two halves, for the one that it comes to
  }
  EXPECT_EQ(last.allocations, 0);
  positions.assign(kNumbers, -1);  // what was uploaded does not change any more
  gpu.download(positions.data(), Tensor::dense(memory[2].data(), DType::i64, {kNumbers}));
  EXPECT_EQ(positions, std::vector<std::int64_t>(kNumbers, 5));
}

}  // namespace
}  // namespace longscan::test

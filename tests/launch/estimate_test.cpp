// What `train --dry-run` says that ranks hand over and what their GPUs have to hold, against what
// they do hand over and what is taken of a GPU.
#include "launch/estimate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "dist/mesh.h"
#include "dist/thread_communicator.h"
#include "model/trainer.h"
#include "tests/support/attention_forms.h"
#include "tests/support/device_numbers.h"
#include "tests/support/lines.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 11;
// Shards of so many tokens fill whole cache lines, so that nothing is sent but what is counted.
constexpr std::int64_t kShard = 40;

// The most bytes that any rank hands over for one line, but for the borders of its shards.
std::int64_t bytes_sent(const ModelOptions& options, const Line& line, int ranks) {
  std::int64_t most = 0;
  std::mutex mutex;
  run_ranks(ranks, [&](Communicator& group) {
    Device device = Device::cpu(1);
    Parameters parameters(options, device);
    Parameters gradient(options, device);
    Transformer transformer(options, device, group);
    const OwnedShard shard(line, group.rank() * kShard, (group.rank() + 1) * kShard);
    const DeviceNumbers<double> totals(device, {0, 0, 0});
    transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), {&shard.shard, 1},
                      {});
    const std::lock_guard lock(mutex);
    most = std::max(most, group.traffic().bytes - 8);
  });
  return most;
}

TEST(Estimate, OfKeysAndValuesIsWhatTheBusiestRankSends) {
  for (const bool causal : {true, false}) {
    for (const bool reversible : {false, true}) {
      for (const int ranks : {2, 3, 4}) {
        ModelOptions options = small_model({AttentionKind::softmax, causal}, kVocabulary);
        options.reversible = reversible;
        for (const std::int64_t window : {ranks * kShard, kShard}) {
          std::vector<std::int64_t> starts;
          for (std::int64_t i = 0; i < ranks * kShard; i += window) starts.push_back(i);
          const Line line = random_line(ranks * kShard, kVocabulary, starts);
          const Layout layout{.line_tokens = ranks * kShard,
                              .window = window,
                              .segments = 1,
                              .tokens_at_once = kShard,
                              .sequence_ranks = ranks,
                              .ranks = ranks};
          // Where no window crosses a cut nothing is sent; the estimate does not know of that.
          const std::int64_t expected =
              window == kShard ? 0 : exchange_of(options, layout).keys_values;
          EXPECT_EQ(bytes_sent(options, line, ranks), expected)
              << ranks << " ranks, windows of " << window << (causal ? ", causal" : "")
              << (reversible ? ", reversible" : "");
        }
      }
    }
  }
}

// Bytes that a GPU has given away for a trainer, once it has taken steps.
std::int64_t bytes_of_training(Device& device, const ModelOptions& options, const Line& line,
                               int segments) {
  std::int64_t used = 0;
  run_ranks(1, [&](Communicator& world) {
    const std::int64_t before = device.memory_used();
    Mesh mesh(world, 0);
    Trainer trainer(options, {.total_steps = 2}, 1, device, mesh);
    const RankLine mine = shards_of(line, segments, 1, 0);
    for (int step = 0; step < 2; ++step) trainer.step(mine.shards);
    used = device.memory_used() - before;
  });
  return used;
}

ModelOptions model_for_gpu(AttentionKind kind) {
  return {.vocabulary = kVocabulary,
          .width = 64,
          .layers = 3,
          .heads = 2,
          .hidden = 256,
          .longest_document = 640,
          .causal = kind != AttentionKind::linformer,
          .attention = {.kind = kind, .features = 64, .projected_length = 32}};
}

TEST(Estimate, OfMemoryIsWhatTrainingTakesOfAGpu) {
  if (find_cuda_devices().count == 0) GTEST_SKIP() << "there is no GPU";
  constexpr std::int64_t kTokens = 640;
  struct Case {
    const char* name;
    ModelOptions options;
    int segments = 1;
  };
  std::vector<Case> cases = {{"elu1", model_for_gpu(AttentionKind::elu1)},
                             {"favor_softmax", model_for_gpu(AttentionKind::favor_softmax)},
                             {"linformer", model_for_gpu(AttentionKind::linformer)},
                             {"softmax", model_for_gpu(AttentionKind::softmax)},
                             {"bf16", model_for_gpu(AttentionKind::elu1)},
                             {"reversible", model_for_gpu(AttentionKind::elu1)},
                             {"segments", model_for_gpu(AttentionKind::elu1), 2},
                             {"large vocabulary", model_for_gpu(AttentionKind::elu1)},
                             {"bidirectional", model_for_gpu(AttentionKind::favor_softmax)}};
  cases[4].options.dtype = DType::bf16;
  cases[5].options.reversible = true;
  cases[7].options.vocabulary = 5000;
  cases[8].options.causal = false;
  for (const auto& [name, options, segments] : cases) {
    Device device = Device::cuda(0);
    const Line line = random_line(kTokens, kVocabulary, {0});
    const Layout layout{.line_tokens = kTokens,
                        .window = kTokens,
                        .segments = segments,
                        .tokens_at_once = kTokens / segments};
    const auto taken = static_cast<double>(bytes_of_training(device, options, line, segments));
    const MemoryEstimate estimate = memory_of(options, layout, device);
    EXPECT_NEAR(static_cast<double>(estimate.on_device()) / taken, 1, 0.02)
        << name << ": " << taken << " bytes";
  }
}

}  // namespace
}  // namespace longscan::test

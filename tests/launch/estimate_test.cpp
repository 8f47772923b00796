// What `train --dry-run` says that ranks hand over, against what they do hand over.
#include "launch/estimate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "dist/thread_communicator.h"
#include "model/transformer.h"
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

}  // namespace
}  // namespace longscan::test

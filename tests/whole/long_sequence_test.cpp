// A quarter of a million tokens: what early tokens receive from all that follow stays exact in
// fp32.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "dist/thread_communicator.h"
#include "model/transformer.h"
#include "tests/support/device_numbers.h"
#include "tests/support/lines.h"

namespace longscan {
namespace {

constexpr std::int64_t kTokens = 262144;
constexpr std::int32_t kCommon = 24;  // tokens that occur everywhere
constexpr std::int32_t kEarly = 16;   // tokens that occur once each, at the line's beginning

// The gradients of the embeddings of the first tokens, [kEarly, width].
std::vector<double> early_gradients(DType dtype, const test::Line& line) {
  const ModelOptions options{.vocabulary = kCommon + kEarly,
                             .width = 32,
                             .layers = 2,
                             .heads = 2,
                             .hidden = 32,
                             .tied_embedding = false,
                             .dtype = dtype};
  std::vector<double> result;
  run_ranks(1, [&](Communicator& group) {
    Device device = Device::cpu(2);
    Parameters parameters(options, device);
    Parameters gradient(options, device);
    parameters.initialize(3);
    for (std::int64_t i = 0; i < parameters.decayed(); ++i) {
      dtype == DType::f32 ? parameters.flat().as<float>()[i] *= 8
                          : parameters.flat().as<double>()[i] *= 8;
    }
    Transformer transformer(options, device, group);
    const test::RankLine segments = test::shards_of(line, 16, 1, 0);
    const test::DeviceNumbers<double> totals(device, {0, 0, 0});
    transformer.train(parameters.weights(), gradient.weights(), totals.tensor(), segments.shards,
                      {});
    const Tensor rows = gradient.weights().embedding.rows(kCommon, kCommon + kEarly);
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      result.push_back(dtype == DType::f32 ? rows.as<float>()[i] : rows.as<double>()[i]);
    }
  });
  return result;
}

TEST(LongSequence, EarlyTokensKeepTheirGradientsInFloat) {
  test::Line line = test::random_line(kTokens, kCommon, {});
  for (std::int32_t i = 0; i < kEarly; ++i) {
    line.tokens[i] = kCommon + i;
    line.targets[i] = -1;  // these tokens have no loss of their own: only what follows reaches them
  }
  const std::vector<double> exact = early_gradients(DType::f64, line);
  const std::vector<double> found = early_gradients(DType::f32, line);
  double largest = 0;
  for (const double value : exact) largest = std::max(largest, std::abs(value));
  EXPECT_GT(largest, 1e-3) << "nothing reaches the early tokens";
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(found[i], exact[i], 1e-4 * largest);
  }
}

}  // namespace
}  // namespace longscan

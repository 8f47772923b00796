// Loss and every gradient are what one rank with one segment computes, however the line is cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "dist/gradient_sum.h"
#include "dist/thread_communicator.h"
#include "model/transformer.h"
#include "tests/support/lines.h"

namespace longscan {
namespace {

using test::Line;
using test::random_line;
using test::shards_of;

constexpr std::int32_t kVocabulary = 19;

struct Result {
  LossTotals totals;
  std::map<std::string, std::vector<double>> gradient;  // by parameter
};

ModelOptions small_model(DType dtype) {
  return {.vocabulary = kVocabulary,
          .width = 24,
          .layers = 3,
          .heads = 3,
          .hidden = 40,
          .positions = Positions::rotary,
          .tied_embedding = true,
          .dtype = dtype};
}

// The line's loss and gradient over `ranks` threads in `segments`.
Result run(const ModelOptions& options, const Line& line, int ranks, int segments, int threads = 1,
           double dropout = 0) {
  Result result;
  std::mutex mutex;
  run_ranks(ranks, [&](Communicator& group) {
    Device device = Device::cpu(threads);
    Parameters parameters(options, device);
    Parameters gradient(options, device);
    parameters.initialize(3);
    // Larger weights than at the beginning of a training, so that attention is far from uniform.
    const auto grow = [&]<class T>(T* values) {
      for (std::int64_t i = 0; i < parameters.decayed(); ++i) values[i] *= 12;
    };
    options.dtype == DType::f32 ? grow(parameters.flat().as<float>())
                                : grow(parameters.flat().as<double>());
    Transformer transformer(options, device, group);
    const test::RankLine mine = shards_of(line, segments, ranks, group.rank());
    const LossTotals totals =
        transformer.train(parameters.weights(), gradient.weights(), mine.shards,
                          {.rate = dropout, .seed = 5, .line = 9});
    std::array<double, 3> sums{totals.loss, totals.correct, totals.tokens};
    sum_gradient(group, gradient.flat(), sums);
    const std::lock_guard lock(mutex);
    if (group.rank() != 0) return;
    result.totals = {.loss = sums[0], .correct = sums[1], .tokens = sums[2]};
    for (const auto& [name, tensor] : gradient.list()) {
      for (std::int64_t i = 0; i < tensor.size(); ++i) {
        result.gradient[name].push_back(tensor.dtype == DType::f32 ? tensor.as<float>()[i]
                                                                   : tensor.as<double>()[i]);
      }
    }
  });
  return result;
}

// The largest difference of any gradient, relative to the largest gradient of its parameter.
double difference(const Result& a, const Result& b) {
  double worst = 0;
  for (const auto& [name, values] : b.gradient) {
    double largest = 0;
    double furthest = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(values[i]));
      furthest = std::max(furthest, std::abs(a.gradient.at(name)[i] - values[i]));
    }
    worst = std::max(worst, furthest / largest);
  }
  return worst;
}

// Documents that begin one token before, on, and one token behind every cut of this run, each at
// its own cuts so that they do not hide each other, and a document of one token. No start: one
// document over all shards.
std::vector<std::vector<std::int64_t>> starts_around_cuts(std::int64_t size, int segments,
                                                          int ranks) {
  std::vector<std::vector<std::int64_t>> choices = {{}, {}, {}, {}, {size / 3, size / 3 + 1}};
  const std::vector<std::int64_t> segment_cuts = test::uneven_cuts(0, size, segments);
  for (int segment = 0; segment < segments; ++segment) {
    for (const std::int64_t cut :
         test::uneven_cuts(segment_cuts[segment], segment_cuts[segment + 1], ranks)) {
      for (const int offset : {-1, 0, 1}) {
        const std::int64_t start = cut + offset;
        if (start > 0 && start < size) choices[2 + offset].push_back(start);
      }
    }
  }
  for (std::vector<std::int64_t>& starts : choices) {
    std::sort(starts.begin(), starts.end());
    starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  }
  return choices;
}

const std::vector<std::int64_t> kManyStarts = {1, 2, 40, 98, 99, 100, 132, 133, 134, 147};

class Cuts : public ::testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(Cuts, ChangeNothingInDouble) {
  const auto [ranks, segments] = GetParam();
  for (const std::int64_t size : {198, 131}) {  // of odd length: with empty shards and segments
    for (const auto& starts : starts_around_cuts(size, segments, ranks)) {
      const Line line = random_line(size, kVocabulary, starts);
      const ModelOptions options = small_model(DType::f64);
      const Result whole = run(options, line, 1, 1);
      const Result cut = run(options, line, ranks, segments);
      EXPECT_EQ(cut.totals.tokens, whole.totals.tokens);
      EXPECT_EQ(cut.totals.correct, whole.totals.correct);
      EXPECT_NEAR(cut.totals.loss / whole.totals.loss, 1, 1e-12);
      EXPECT_LT(difference(cut, whole), 1e-12);
    }
  }
}

TEST_P(Cuts, ChangeNothingWithDropout) {
  const auto [ranks, segments] = GetParam();
  const Line line = random_line(150, kVocabulary, kManyStarts);
  const ModelOptions options = small_model(DType::f64);
  const Result whole = run(options, line, 1, 1, 1, 0.25);
  EXPECT_GT(difference(run(options, line, 1, 1), whole), 1e-3) << "dropout does nothing";
  EXPECT_LT(difference(run(options, line, ranks, segments, 1, 0.25), whole), 1e-12);
}

TEST_P(Cuts, AreNoWorseInFloatThanOneRank) {
  const auto [ranks, segments] = GetParam();
  const Line line = random_line(1500, kVocabulary, {300, 301, 1100});
  const Result truth = run(small_model(DType::f64), line, 1, 1);
  const double whole = difference(run(small_model(DType::f32), line, 1, 1), truth);
  const double cut = difference(run(small_model(DType::f32), line, ranks, segments), truth);
  EXPECT_LT(whole, 1e-4);
  EXPECT_LT(cut, 1.1 * whole);
}

INSTANTIATE_TEST_SUITE_P(RanksAndSegments, Cuts,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 6, 8),
                                            ::testing::Values(1, 2, 3, 7)));

TEST(Invariance, HoldsForEveryChoiceOfTheModel) {
  const Line line = random_line(120, kVocabulary, {30, 61, 62});
  for (const Positions positions : {Positions::sinusoidal, Positions::learned, Positions::none}) {
    for (const MlpKind mlp : {MlpKind::gelu, MlpKind::relu, MlpKind::swiglu}) {
      ModelOptions options = small_model(DType::f64);
      options.positions = positions;
      options.longest_document = 120;
      options.mlp = mlp;
      options.norm = mlp == MlpKind::swiglu ? NormKind::rms_norm : NormKind::layer_norm;
      options.tied_embedding = mlp != MlpKind::relu;
      const Result whole = run(options, line, 1, 1);
      EXPECT_LT(difference(run(options, line, 3, 2), whole), 1e-12);
    }
  }
}

TEST(Invariance, HoldsForEveryNumberOfThreads) {
  // Long enough that a line with three heads is cut into parts by two and by four threads.
  const Line line = random_line(1100, kVocabulary, {400});
  const ModelOptions options = small_model(DType::f64);
  const Result one = run(options, line, 1, 1, 1);
  for (const int threads : {2, 4}) {
    EXPECT_LT(difference(run(options, line, 1, 1, threads), one), 1e-12);
    EXPECT_LT(difference(run(options, line, 2, 2, threads), one), 1e-12);
  }
}

}  // namespace
}  // namespace longscan

// Sampling: what each option does to the draw, and how often tokens come.
#include "model/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "dist/thread_communicator.h"
#include "kernels/error.h"

namespace longscan {
namespace {

// Probabilities 0.1, 0.4, 0.2, 0.3.
std::vector<double> logits() {
  return {std::log(1.0), std::log(4.0), std::log(2.0), std::log(3.0)};
}

std::map<std::int32_t, double> frequencies(const SamplingOptions& options) {
  constexpr int kDraws = 40000;
  std::vector<double> values = logits();
  const Tensor tensor = Tensor::dense(values.data(), DType::f64, {4});
  std::map<std::int32_t, double> counts;
  for (int draw = 0; draw < kDraws; ++draw) {
    counts[sample_token(tensor, options, 0, static_cast<std::uint64_t>(draw))] += 1.0 / kDraws;
  }
  return counts;
}

using ::testing::DoubleNear;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr double kFourSigma = 0.01;  // of a frequency over 40,000 draws

TEST(SampleToken, DrawsByProbability) {
  EXPECT_THAT(frequencies({}), UnorderedElementsAre(Pair(0, DoubleNear(0.1, kFourSigma)),
                                                    Pair(1, DoubleNear(0.4, kFourSigma)),
                                                    Pair(2, DoubleNear(0.2, kFourSigma)),
                                                    Pair(3, DoubleNear(0.3, kFourSigma))));
}

TEST(SampleToken, TopKKeepsTheMostLikely) {
  EXPECT_THAT(frequencies({.top_k = 2}),
              UnorderedElementsAre(Pair(1, DoubleNear(4.0 / 7, kFourSigma)),
                                   Pair(3, DoubleNear(3.0 / 7, kFourSigma))));
}

TEST(SampleToken, TopPKeepsTheFewestWithThatProbability) {
  EXPECT_THAT(frequencies({.top_p = 0.75}),
              UnorderedElementsAre(Pair(1, DoubleNear(4.0 / 9, kFourSigma)),
                                   Pair(3, DoubleNear(3.0 / 9, kFourSigma)),
                                   Pair(2, DoubleNear(2.0 / 9, kFourSigma))));
  EXPECT_THAT(frequencies({.top_p = 0.01}), UnorderedElementsAre(Pair(1, DoubleNear(1, 1e-9))));
}

TEST(SampleToken, TemperatureSharpensAndZeroTakesTheLargest) {
  EXPECT_THAT(frequencies({.temperature = 0}), UnorderedElementsAre(Pair(1, DoubleNear(1, 1e-9))));
  // At temperature 1/2 the weights are squared: 1, 16, 4, 9.
  EXPECT_NEAR(frequencies({.temperature = 0.5})[1], 16.0 / 30, kFourSigma);
}

TEST(SampleToken, NeverDrawsABannedToken) {
  EXPECT_THAT(frequencies({.banned = {1, 3}}),
              UnorderedElementsAre(Pair(0, DoubleNear(1.0 / 3, kFourSigma)),
                                   Pair(2, DoubleNear(2.0 / 3, kFourSigma))));
}

TEST(SampleToken, RefusesLogitsThatAreNotFinite) {
  std::vector<double> values = {0, NAN, 1};
  EXPECT_THROW(sample_token(Tensor::dense(values.data(), DType::f64, {3}), {}, 0, 0), Error);
}

TEST(SamplingOptions, OutOfRangeAreRefused) {
  EXPECT_THROW(check({.temperature = -1}), Error);
  EXPECT_THROW(check({.top_k = -1}), Error);
  EXPECT_THROW(check({.top_p = 0}), Error);
  EXPECT_THROW(check({.top_p = 1.5}), Error);
  EXPECT_NO_THROW(check({}));
}

TEST(Generator, SamplesAreRepeatableIndependentAndEndWhereTheyShould) {
  run_ranks(1, [](Communicator& group) {
    const ModelOptions options{.vocabulary = 6, .width = 8, .layers = 1, .heads = 2, .hidden = 8};
    Device device = Device::cpu(1);
    Parameters parameters(options, device);
    parameters.initialize(1);
    Transformer transformer(options, device, group);
    Generator generator(transformer, parameters.weights());
    const std::vector<std::int32_t> prompt = {1, 2, 3};
    const auto generate = [&](std::uint64_t sample, std::int32_t end) {
      return generator.generate(prompt, end, 30, {.seed = 4}, sample);
    };
    const std::vector<std::int32_t> first = generate(0, -1);
    EXPECT_EQ(first.size(), 30u);
    EXPECT_EQ(generate(0, -1), first);
    EXPECT_NE(generate(1, -1), first);
    // With a token of the sample as the end, the sample stops in front of it.
    const std::int32_t end = first[7];
    const auto place = std::find(first.begin(), first.end(), end);
    EXPECT_EQ(generate(0, end), std::vector<std::int32_t>(first.begin(), place));
  });
}

}  // namespace
}  // namespace longscan

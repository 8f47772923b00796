// A random line and the definition of what its tokens leave to each other, to hold the state
// exchange against.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "dist/state_exchange.h"
#include "tests/support/device_numbers.h"
#include "tests/support/ranks.h"

namespace longscan::test {

inline constexpr std::int64_t kHeads = 3;
inline constexpr std::int64_t kFeatures = 4;
inline constexpr std::int64_t kColumns = 5;
inline constexpr std::int64_t kCount = kHeads * kFeatures * kColumns;

/// A line of tokens with documents, cut into segments and shards. The same on every rank.
struct ExchangeCase {
  ExchangeCase(unsigned seed, int segments, int ranks) : random(seed) {
    const std::int64_t tokens = 1 + static_cast<std::int64_t>(random() % 60);
    const std::vector<std::int64_t> segment_cuts = random_cuts(tokens, segments, random);
    for (int segment = 0; segment < segments; ++segment) {
      const std::int64_t begin = segment_cuts[static_cast<std::size_t>(segment)];
      const std::int64_t end = segment_cuts[static_cast<std::size_t>(segment) + 1];
      cuts.push_back(random_cuts(end - begin, ranks, random));
      for (std::int64_t& cut : cuts.back()) cut += begin;
    }
    // Documents begin on, just before and just behind cuts, and elsewhere; rarely or often.
    starts.resize(static_cast<std::size_t>(tokens));
    const unsigned rarity = 1 + random() % 8;
    for (const auto& segment : cuts) {
      for (const std::int64_t cut : segment) {
        const std::int64_t token = cut + static_cast<std::int64_t>(random() % 3) - 1;
        if (token >= 0 && token < tokens && random() % rarity == 0) start_at(token);
      }
    }
    for (std::int64_t token = 0; token < tokens; ++token) {
      if (random() % (8 * rarity) == 0) start_at(token);
    }
    // What a token adds differs from head to head and from number to number.
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (std::int64_t i = 0; i < tokens * kCount; ++i) {
      addends.push_back(uniform(random) * static_cast<double>(1 + i % kCount));
    }
  }

  void start_at(std::int64_t token) { starts[static_cast<std::size_t>(token)] = true; }
  bool starts_at(std::int64_t token) const { return starts[static_cast<std::size_t>(token)]; }
  std::int64_t tokens() const { return std::ssize(starts); }

  /// The sum over the tokens from `token` on in steps of +1 or -1, within the document of `token`
  /// and to `end` (exclusive).
  std::vector<double> sum(std::int64_t token, std::int64_t end, int step) const {
    std::vector<double> total(kCount);
    for (; token != end; token += step) {
      for (std::int64_t i = 0; i < kCount; ++i) {
        total[static_cast<std::size_t>(i)] += addends[static_cast<std::size_t>(token * kCount + i)];
      }
      if (step < 0 && starts_at(token)) break;
      if (step > 0 && token + 1 != end && starts_at(token + 1)) break;
    }
    return total;
  }
  /// What the tokens in [begin, place) leave to token `place`.
  std::vector<double> before(std::int64_t place, std::int64_t begin = 0) const {
    if (place >= tokens() || starts_at(place)) return std::vector<double>(kCount);
    return sum(place - 1, begin - 1, -1);
  }
  /// What the tokens in [place, end) leave to token `place` - 1.
  std::vector<double> behind(std::int64_t place, std::int64_t end) const {
    if (place >= end || starts_at(place)) return std::vector<double>(kCount);
    return sum(place, end, 1);
  }

  /// A shard's own sum, as an attention layer makes it.
  std::vector<double> sum_of_shard(std::int64_t begin, std::int64_t end,
                                   Direction direction) const {
    if (begin == end) return std::vector<double>(kCount);
    if (direction == Direction::forward) return sum(end - 1, begin - 1, -1);
    return starts_at(begin) ? std::vector<double>(kCount) : sum(begin, end, 1);
  }

  ShardBorders borders(std::int64_t begin, std::int64_t end) const {
    std::vector<std::int64_t> starts_here;
    for (std::int64_t token = begin; token < end; ++token) {
      if (starts_at(token)) starts_here.push_back(token - begin);
    }
    return borders_of_shard(end - begin, starts_here);
  }

  std::mt19937 random;
  std::vector<std::vector<std::int64_t>> cuts;  ///< of each segment, one more than ranks
  std::vector<bool> starts;
  std::vector<double> addends;  ///< [tokens, kCount]
};

template <class T>
Tensor state_tensor(std::vector<T>& numbers) {
  return Tensor::dense(numbers.data(), DTypeOf<T>::value, {kHeads, kFeatures, kColumns});
}
template <class T>
Tensor state_tensor(const DeviceNumbers<T>& numbers) {
  return numbers.tensor().reshaped({kHeads, kFeatures, kColumns});
}

template <class T>
void expect_near(const std::vector<T>& actual, const std::vector<double>& expected,
                 double tolerance, const char* what) {
  double error = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error = std::max(error, std::abs(static_cast<double>(actual[i]) - expected[i]));
  }
  EXPECT_LE(error, tolerance) << what;
}

/// Collective. Takes a random line through all segments in one direction, the carry in place, and
/// compares what the exchange says with the definition. `group` has a device each.
template <class T>
void expect_exchange_is_exact(Communicator& group, Device& device, unsigned seed, int segments,
                              Direction direction, double tolerance) {
  SCOPED_TRACE(testing::Message() << "seed " << seed << ", rank " << group.rank() << " of "
                                  << group.size() << ", " << segments << " segments");
  const ExchangeCase line(seed, segments, group.size());
  const auto rank = static_cast<std::size_t>(group.rank());
  std::vector<ShardBorders> mine;
  for (const auto& cuts : line.cuts) mine.push_back(line.borders(cuts[rank], cuts[rank + 1]));
  const std::vector<SegmentBorders> borders = gather_borders(group, mine);

  StateExchange exchange(group, device);
  std::vector<T> carry;  // absent before the first segment
  for (int step = 0; step < segments; ++step) {
    const bool forward = direction == Direction::forward;
    const auto segment = static_cast<std::size_t>(forward ? step : segments - 1 - step);
    const auto& cuts = line.cuts[segment];
    const std::int64_t begin = cuts[rank];
    const std::int64_t end = cuts[rank + 1];
    const std::vector<double> exact = line.sum_of_shard(begin, end, direction);
    const DeviceNumbers<T> sum(device, {exact.begin(), exact.end()});
    const DeviceNumbers<T> state(device, std::vector<T>(kCount, T{77}));
    const DeviceNumbers<T> carried_on(device, std::vector<T>(kCount, T{77}));
    const DeviceNumbers<T> carried_in(device, carry);

    const bool exchanges = borders[segment].exchanges(direction);
    exchange.start(direction, borders[segment], exchanges ? state_tensor(sum) : Tensor{});
    const Tensor carry_in = carry.empty() ? Tensor{} : state_tensor(carried_in);
    // Now in place, now not.
    const bool in_place = carry_in.present() && step % 2 == 0;
    exchange.finish(state_tensor(state), carry_in, in_place ? carry_in : state_tensor(carried_on));
    carry = (in_place ? carried_in : carried_on).numbers();

    std::vector<double> expected(kCount);
    if (begin != end) expected = forward ? line.before(begin) : line.behind(end, line.tokens());
    expect_near(state.numbers(), expected, tolerance, "state");
    const bool carries_on = borders[segment].carries_on(direction);
    expected.assign(kCount, 0);
    if (carries_on && forward) expected = line.before(cuts.back());
    if (carries_on && !forward) expected = line.behind(cuts.front(), line.tokens());
    expect_near(carry, expected, tolerance, "carry");
  }
}

/// The same on the CPU.
template <class T>
void expect_exchange_is_exact(Communicator& group, unsigned seed, int segments, Direction direction,
                              double tolerance) {
  Device device = Device::cpu(1);
  expect_exchange_is_exact<T>(group, device, seed, segments, direction, tolerance);
}

}  // namespace longscan::test

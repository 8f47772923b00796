// Numbers of ranks and uneven cuts of a line, for tests that compare many ranks with one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

namespace longscan::test {

inline constexpr int kRankCounts[] = {1, 2, 3, 4, 6, 8};

/// `parts` + 1 ascending positions from 0 to `tokens` that cut a line into shards of random
/// lengths, about one in four of them empty.
inline std::vector<std::int64_t> random_cuts(std::int64_t tokens, int parts, std::mt19937& random) {
  std::vector<std::int64_t> cuts = {0, tokens};
  while (static_cast<int>(cuts.size()) < parts + 1) {
    const bool repeat = random() % 4 == 0;
    cuts.push_back(repeat
                       ? cuts[random() % cuts.size()]
                       : static_cast<std::int64_t>(random() % static_cast<unsigned>(tokens + 1)));
  }
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

}  // namespace longscan::test

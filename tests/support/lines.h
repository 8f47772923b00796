// Lines of random tokens for tests of the model, and their cuts into segments and shards.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/random.h"
#include "model/pass.h"

namespace longscan::test {

/// A whole line. `starts`: first tokens of its documents; token 0 is always one.
struct Line {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> starts;
  std::vector<std::uint8_t> attended = {};  ///< empty: all

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
};

inline Line random_line(std::int64_t size, std::int32_t vocabulary,
                        std::vector<std::int64_t> starts, std::uint64_t seed = 7) {
  Line line;
  line.starts = std::move(starts);
  if (line.starts.empty() || line.starts.front() != 0) line.starts.insert(line.starts.begin(), 0);
  std::int64_t position = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const RandomWords words =
        random_words({seed, RandomPurpose::sample, 0}, static_cast<std::uint64_t>(i));
    if (std::binary_search(line.starts.begin(), line.starts.end(), i)) position = 0;
    const auto entries = static_cast<std::uint32_t>(vocabulary);
    line.tokens.push_back(static_cast<std::int32_t>(words[0] % entries));
    // One target in eight is missing, as behind a corpus' end.
    line.targets.push_back(words[2] % 8 == 0 ? -1 : static_cast<std::int32_t>(words[1] % entries));
    line.positions.push_back(position++);
  }
  return line;
}

/// The tokens [begin, end) of a line as a shard, with the memory that it views.
struct OwnedShard {
  std::vector<std::int64_t> starts;
  Shard shard;

  OwnedShard(const Line& line, std::int64_t begin, std::int64_t end) {
    for (const std::int64_t start : line.starts) {
      if (start >= begin && start < end) starts.push_back(start - begin);
    }
    const auto count = static_cast<std::size_t>(end - begin);
    shard = {.tokens = {line.tokens.data() + begin, count},
             .targets = {line.targets.data() + begin, count},
             .positions = {line.positions.data() + begin, count},
             .document_starts = starts,
             .first_token = begin};
    if (!line.attended.empty()) shard.attended = {line.attended.data() + begin, count};
  }
  OwnedShard(const OwnedShard&) = delete;
  OwnedShard(OwnedShard&& other) noexcept : starts(std::move(other.starts)), shard(other.shard) {
    shard.document_starts = starts;
  }
};

/// Cuts of [begin, end) into `parts`: parts + 1 ascending ends. Uneven on purpose, with an empty
/// part: the third of four or more, the first of two or three where the range is of odd length.
inline std::vector<std::int64_t> uneven_cuts(std::int64_t begin, std::int64_t end, int parts) {
  std::vector<std::int64_t> cuts{begin};
  const std::int64_t size = end - begin;
  for (int part = 1; part < parts; ++part) {
    std::int64_t cut = begin + size * part / parts + (part % 3) * 5 - 4;
    const bool odd_range = size % 2 == 1;
    if (part == 3 || (parts <= 3 && part == 1 && odd_range)) cut = cuts.back();
    cuts.push_back(std::clamp(cut, cuts.back(), end));
  }
  cuts.push_back(end);
  return cuts;
}

/// The shards of one rank, one a segment.
struct RankLine {
  std::vector<OwnedShard> owned;
  std::vector<Shard> shards;
};

inline RankLine shards_of(const Line& line, int segments, int ranks, int rank) {
  RankLine mine;
  const auto segment_cuts = uneven_cuts(0, line.size(), segments);
  for (int segment = 0; segment < segments; ++segment) {
    const auto cuts = uneven_cuts(segment_cuts[segment], segment_cuts[segment + 1], ranks);
    mine.owned.emplace_back(line, cuts[rank], cuts[rank + 1]);
  }
  for (const OwnedShard& shard : mine.owned) mine.shards.push_back(shard.shard);
  return mine;
}
/// Shards view their line.
RankLine shards_of(Line&& line, int segments, int ranks, int rank) = delete;

}  // namespace longscan::test

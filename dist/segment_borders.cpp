// A document start cuts: what is before it does not reach the tokens from it on.
#include "dist/segment_borders.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace longscan {

namespace {

std::int64_t to_bits(const ShardBorders& shard) {
  return shard.tokens << 3 | (shard.starts_document ? 1 : 0) | (shard.has_start ? 2 : 0) |
         (shard.masked ? 4 : 0);
}

ShardBorders from_bits(std::int64_t bits) {
  return {.tokens = bits >> 3,
          .starts_document = (bits & 1) != 0,
          .has_start = (bits & 2) != 0,
          .masked = (bits & 4) != 0};
}

/// Does the segment's first token belong to the document before it? Through a segment without
/// tokens that document passes if it goes on behind it.
bool continues(const std::vector<ShardBorders>& shards, bool continued) {
  for (const ShardBorders& shard : shards) {
    if (!shard.empty()) return !shard.starts_document;
  }
  return continued;
}

/// The shards before `place` back to the last one in which a document starts. That one counts: its
/// sum is of the tokens from its last document start on.
StateRange shards_before(const std::vector<ShardBorders>& shards, int place) {
  for (int rank = place - 1; rank >= 0; --rank) {
    if (shards[static_cast<std::size_t>(rank)].has_start) return {rank, place, false};
  }
  return {0, place, true};
}

/// The shards from `place` on to the first one in which a document starts. That one counts: its
/// gradient sum is of the tokens before its first document start.
StateRange shards_from(const std::vector<ShardBorders>& shards, int place) {
  const int ranks = static_cast<int>(shards.size());
  for (int rank = place; rank < ranks; ++rank) {
    if (shards[static_cast<std::size_t>(rank)].has_start) return {place, rank + 1, false};
  }
  return {place, ranks, true};
}

}  // namespace

ShardBorders borders_of_shard(std::int64_t tokens, std::span<const std::int64_t> document_starts) {
  return {.tokens = tokens,
          .starts_document = !document_starts.empty() && document_starts.front() == 0,
          .has_start = !document_starts.empty()};
}

StateRange SegmentBorders::needed_by(int rank, Direction direction) const {
  const ShardBorders& shard = shards_.at(static_cast<std::size_t>(rank));
  if (shard.empty()) return {};
  if (direction == Direction::backward) return shards_from(shards_, rank + 1);
  return shard.starts_document ? StateRange{} : shards_before(shards_, rank);
}

bool SegmentBorders::masked() const {
  return std::any_of(shards_.begin(), shards_.end(),
                     [](const ShardBorders& shard) { return shard.masked; });
}

int SegmentBorders::reach_of(int rank, Direction direction) const {
  const ShardBorders& source = shards_.at(static_cast<std::size_t>(rank));
  const bool forward = direction == Direction::forward;
  int furthest = rank;
  if (source.empty() || (!forward && source.starts_document)) return furthest;
  const int step = forward ? 1 : -1;
  for (int other = rank + step; other >= 0 && other < ranks(); other += step) {
    const ShardBorders& shard = shards_[static_cast<std::size_t>(other)];
    if (shard.empty()) continue;
    if (forward && shard.starts_document) break;
    furthest = other;
    if (shard.has_start) break;  // forward the document ends there, backward it begins there
  }
  return furthest;
}

StateRange SegmentBorders::carried_on(Direction direction) const {
  if (!carries_on(direction)) return {};
  return direction == Direction::forward ? shards_before(shards_, ranks())
                                         : shards_from(shards_, 0);
}

bool SegmentBorders::crosses() const {
  bool tokens_before = false;
  for (const ShardBorders& shard : shards_) {
    if (shard.empty()) continue;
    if (tokens_before && !shard.starts_document) return true;
    tokens_before = true;
  }
  return false;
}

std::vector<SegmentBorders> gather_borders(Communicator& group,
                                           std::span<const ShardBorders> mine) {
  const std::size_t segments = mine.size();
  const auto ranks = static_cast<std::size_t>(group.size());
  std::vector<std::int64_t> my_bits;
  for (const ShardBorders& shard : mine) my_bits.push_back(to_bits(shard));
  std::vector<std::int64_t> all_bits(ranks * segments);
  group.all_gather(my_bits.data(), all_bits.data(),
                   static_cast<std::int64_t>(segments * sizeof(std::int64_t)));

  std::vector<SegmentBorders> line;
  bool continued = false;
  // From the last segment on, so that each knows whether the next one continues it.
  for (std::size_t segment = segments; segment-- > 0;) {
    std::vector<ShardBorders> shards(ranks);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      shards[rank] = from_bits(all_bits[rank * segments + segment]);
    }
    const bool continues_here = segment > 0 && continues(shards, continued);
    line.emplace_back(std::move(shards), continues_here, continued);
    continued = continues_here;
  }
  std::reverse(line.begin(), line.end());
  return line;
}

}  // namespace longscan

// Where documents begin in the shards of a segment, known to all ranks of a sequence group: it
// decides whose states reach whom.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dist/communicator.h"

namespace longscan {

/// forward: states flow to later tokens. backward: their gradients flow to earlier ones.
enum class Direction { forward, backward };

/// What a rank tells of its own shard. An empty shard lets everything pass.
struct ShardBorders {
  std::int64_t tokens = 0;
  bool starts_document = false;  ///< its first token is the first of a document
  bool has_start = false;        ///< some token is the first of a document, that one included
  bool masked = false;           ///< it says of each token whether others attend to it

  bool empty() const { return tokens == 0; }
};

/// The borders of a shard of `tokens` tokens in which the tokens `document_starts` (ascending)
/// begin documents.
ShardBorders borders_of_shard(std::int64_t tokens, std::span<const std::int64_t> document_starts);

/// Shards whose states are joined: those of ranks [begin, end), and what the neighbouring segment
/// has left (`carry`).
struct StateRange {
  int begin = 0;
  int end = 0;
  bool carry = false;
};

/// The borders of one segment; the same on every rank of the group.
class SegmentBorders {
 public:
  /// `continued`: the document at the end of this segment goes on in the next one.
  SegmentBorders(std::vector<ShardBorders> shards, bool continues, bool continued)
      : shards_(std::move(shards)), continues_(continues), continued_(continued) {}

  int ranks() const { return static_cast<int>(shards_.size()); }
  std::int64_t tokens_of(int rank) const {
    return shards_.at(static_cast<std::size_t>(rank)).tokens;
  }

  /// Whose states the shard of `rank` needs: forward those before its first token, backward those
  /// behind its last. Nothing for an empty shard.
  StateRange needed_by(int rank, Direction direction) const;
  /// Some shard is masked; so is then every shard with tokens.
  bool masked() const;
  /// The furthest rank in this direction that needs anything of the shard of `rank`: one with
  /// tokens of its last document (backward: of its first); `rank` itself where there is none.
  int reach_of(int rank, Direction direction) const;
  /// Whose states are carried into the segment that is worked on next in this direction.
  StateRange carried_on(Direction direction) const;

  /// Some shard needs another's state.
  bool crosses() const;
  /// The segment worked on next in this direction needs this one's states.
  bool carries_on(Direction direction) const {
    return direction == Direction::forward ? continued_ : continues_;
  }
  /// The states of the shards must be summed up and exchanged. Otherwise every shard makes do with
  /// its own tokens and what is carried into the segment.
  bool exchanges(Direction direction) const { return crosses() || carries_on(direction); }

 private:
  std::vector<ShardBorders> shards_;
  bool continues_;  // its first token belongs to the document at the end of the segment before
  bool continued_;
};

/// Collective. The borders of all segments of a line, in order, from those of this rank's shards,
/// one a segment. One gather a line: forward, recomputation and backward use what it returns.
std::vector<SegmentBorders> gather_borders(Communicator& group, std::span<const ShardBorders> mine);

}  // namespace longscan

// The exchange of exact softmax attention: shards of tokens pass from neighbour to neighbour, as
// far as the documents reach that they belong to (Liu et al. 2023, "Ring attention", here with open
// ends: what only looks back needs no way round).
//
//   hop               1                 2                 3
//   rank 1    holds 0's shard
//   rank 2    holds 1's shard     holds 0's shard
//   rank 3    holds 2's shard     holds 1's shard     holds 0's shard
//
// A shard is on its way to the next rank while this one works on it. What it sends is as long as
// the shards are: other kinds of attention exchange states instead (dist/state_exchange.h).
//
//   exchange.pass(borders, {{Direction::forward, {key, value}, attend_to}}, attend_to_my_own);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "dist/communicator.h"
#include "dist/segment_borders.h"
#include "kernels/buffer.h"
#include "kernels/device.h"

namespace longscan {

/// Another rank's shard, while it is here.
struct VisitingBlock {
  std::int64_t offset = 0;          ///< of its first token in the line from this rank's first one
  std::span<const Tensor> tensors;  ///< dense, as that rank named them
};

/// Shards on their way in one direction.
struct BlockStream {
  Direction direction = Direction::forward;
  /// What this rank's tokens have to tell: [tokens, ...] each, of the same types and further
  /// dimensions on all ranks. Gaps between rows are allowed.
  std::vector<Tensor> mine;
  /// Called for each shard that comes by, the nearest first.
  std::function<void(const VisitingBlock&)> body;
};

/// One for a sequence group; one pass at a time. Its memory, two shards for every stream, is kept
/// from call to call.
class BlockExchange {
 public:
  /// Both must outlive the exchange.
  BlockExchange(Communicator& group, Device& device) : group_(group), device_(device) {}

  /// Collective where a shard has to reach another rank. All streams advance together, hop by hop;
  /// `meanwhile` is called once, while the first shards are on their way. The shard of another rank
  /// comes by on every rank from there to the last that needs it.
  void pass(const SegmentBorders& borders, std::span<const BlockStream> streams,
            const std::function<void()>& meanwhile);

 private:
  class Lane;

  Communicator& group_;
  Device& device_;
  std::vector<Buffer> buffers_;  // two for every stream
};

}  // namespace longscan

// The state exchange: how tokens of one shard reach those of another without being sent.
//
// A line is cut in time into segments and each segment in space into shards, one a rank of the
// sequence group. All that a shard needs of the tokens before it is the sum of their states
// (forward), and of those behind it the sum of their gradients (backward): an exclusive prefix and
// an exclusive suffix over the ranks, cut where documents begin. Both are made in the same way, by
// one all-gather of heads * features * (value_dim + 1) numbers a rank, whatever the length of its
// shard, and a fold in fixed order that every rank does for itself:
//
//   rank             0         1         2         3
//   tokens        . . . .   . . | .   . . . .   . | . .      | = here a document begins
//
//   forward: a shard's sum is of its tokens since its last document start
//     before         C         C+0       1         1+2       C = carried in from the segment before
//     carried on to the next segment: 3
//   backward: a shard's sum is of its tokens before its first document start
//     behind         1         2+3       3         C         C = carried in from the segment behind
//     carried on to the segment before: 0+1
//
//   std::vector<SegmentBorders> line = gather_borders(group, my_borders);     // once a line
//   exchange.start(Direction::forward, line[segment], my_sum);                // once a layer
//   ... work that needs nobody else ...
//   exchange.finish(before, carry, carry);
#pragma once

#include <cstdint>
#include <memory>

#include "dist/communicator.h"
#include "dist/segment_borders.h"
#include "kernels/buffer.h"
#include "kernels/device.h"

namespace longscan {

/// One for a sequence group; one exchange at a time. Its memory, a state of every rank, is kept
/// from call to call.
class StateExchange {
 public:
  /// Both must outlive the exchange.
  StateExchange(Communicator& group, Device& device) : group_(group), device_(device) {}

  /// Collective where `borders.exchanges(direction)`; then it starts to send `sum`, which must stay
  /// untouched until `finish`. Otherwise nothing is sent and `sum` may be absent.
  /// sum: [heads, rows, columns] f32 or f64, dense: this shard's state (forward: of the tokens
  /// since its last document start, backward: before its first one; all where there is none). Of an
  /// empty shard that of no tokens. exponential: the last column of a state is an exponent (see
  /// FoldStates).
  void start(Direction direction, const SegmentBorders& borders, const Tensor& sum,
             bool exponential = false);

  /// Collective as `start` was. Waits for the others' states and joins them. All of the shape of a
  /// state:
  /// state: out; what the tokens before this shard (backward: behind it) leave to it. That of no
  /// tokens where nothing reaches it.
  /// carry_in: what the segment before (backward: behind) has carried on; absent means nothing.
  /// carry_out: out; what this segment carries on, if its neighbour needs anything. May be
  /// carry_in, or absent.
  /// Both carries are the same on all ranks of the group.
  void finish(const Tensor& state, const Tensor& carry_in, const Tensor& carry_out);

 private:
  void join(const Tensor& out, const StateRange& range, const Tensor& carry);

  Communicator& group_;
  Device& device_;
  Buffer gathered_;
  // The exchange that has been started.
  Direction direction_ = Direction::forward;
  StateRange needed_;
  StateRange carried_on_;
  bool exponential_ = false;
  Tensor sums_;  // [ranks, numbers of a state], absent where nothing is exchanged
  std::unique_ptr<Pending> pending_;
};

}  // namespace longscan

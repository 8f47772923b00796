// The process mesh data x sequence: ranks that share a line sit next to each other.
//
//            sequence 0   1        With 6 ranks, 2 a sequence group: ranks 2 and 3 hold the shards
//   data 0          0     1        of line 1; ranks 1, 3 and 5 hold the last shards of three lines.
//   data 1          2     3
//   data 2          4     5
#pragma once

#include <memory>

#include "dist/communicator.h"

namespace longscan {

class Mesh {
 public:
  /// Collective over `world`, which must outlive the mesh. `sequence`: ranks that share one line; 0
  /// takes all. Throws usage when the ranks cannot be divided into groups of that size.
  Mesh(Communicator& world, int sequence);

  Communicator& world() const { return world_; }
  /// The ranks that share this rank's line, in the order of their shards.
  Communicator& sequence() const { return *sequence_; }
  /// The ranks that hold the same place in the other lines, in the order of the lines.
  Communicator& data() const { return *data_; }

  int sequence_index() const { return sequence_->rank(); }
  int sequence_size() const { return sequence_->size(); }
  int data_index() const { return data_->rank(); }
  int data_size() const { return data_->size(); }

 private:
  Communicator& world_;
  std::unique_ptr<Communicator> sequence_;
  std::unique_ptr<Communicator> data_;
};

}  // namespace longscan

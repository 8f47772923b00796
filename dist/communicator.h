// A group of ranks and what they can do together. Ranks are threads of one process or processes
// under MPI.
//
// Every function is a collective: all ranks of the group call it, in the same order, with the same
// sizes.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"

namespace longscan {

/// What one rank has handed to collectives since the communicator was made, for benchmarks and the
/// step line.
struct Traffic {
  std::int64_t bytes = 0;  ///< bytes of this rank's own contributions
  std::int64_t calls = 0;
  double seconds = 0;  ///< time spent inside collectives, waiting included
};

/// A collective under way. Destroying it without `wait` is an error of the caller.
class Pending {
 public:
  virtual ~Pending() = default;
  /// Returns when the result is there. Throws io when the transport failed.
  virtual void wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Puts `bytes` bytes of every rank, in the order of ranks, into `all` (size() * bytes bytes).
  /// `mine` and `all` must stay untouched until `wait`. bytes = 0 is allowed.
  [[nodiscard]] virtual std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                                                  std::int64_t bytes) = 0;
  void all_gather(const void* mine, void* all, std::int64_t bytes) {
    start_all_gather(mine, all, bytes)->wait();
  }

  /// Replaces a dense tensor (f32, f64 or i64) by its sum over the ranks; the same bits on every
  /// rank.
  virtual void all_reduce_sum(const Tensor& tensor) = 0;

  /// Replaces `bytes` bytes by those of rank `root`.
  virtual void broadcast(void* data, std::int64_t bytes, int root) = 0;

  virtual void barrier() = 0;

  /// The group of the ranks that name the same `color`, in the order of their ranks here.
  virtual std::unique_ptr<Communicator> split(int color) = 0;

  virtual const Traffic& traffic() const = 0;
};

}  // namespace longscan

// A group of ranks and what they can do together. Ranks are threads of one process or processes
// under MPI.
//
// Every function that is marked so is a collective: all ranks of the group call it, in the same
// order, with the same sizes. Data lie in host memory; those of `for_device()` in the memory of the
// ranks' devices, which on the CPU is the same.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "kernels/tensor.h"

namespace longscan {

/// What one rank has handed to collectives since the communicator was made, for benchmarks and the
/// step line.
struct Traffic {
  std::int64_t bytes = 0;  ///< bytes of this rank's own contributions
  std::int64_t calls = 0;
  /// Time that the host spent inside collectives, or with NCCL the GPU, waiting included.
  double seconds = 0;
};

/// A collective under way. Its communicator must outlive it. Destroying it without `wait` is right
/// only where an error ends the job.
class Pending {
 public:
  virtual ~Pending() = default;
  /// Returns when the result is there. Throws when another rank has failed or the transport has.
  virtual void wait() = 0;
};

class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Puts `bytes` bytes of every rank, in the order of ranks, into `all` (size() *
  /// bytes bytes, apart from `mine`). Both must stay untouched until `wait`. bytes = 0 is allowed.
  [[nodiscard]] virtual std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                                                  std::int64_t bytes) = 0;
  void all_gather(const void* mine, void* all, std::int64_t bytes) {
    start_all_gather(mine, all, bytes)->wait();
  }

  /// Collective. Sends `mine_bytes` bytes to the next rank and receives `theirs_bytes` from the one
  /// before; with `towards_first` from the next one to the one before. The last rank in that
  /// direction sends nothing and the first one receives nothing, whatever they name. Neighbours
  /// name the same number of bytes, which may be 0. Both must stay untouched until `wait`.
  [[nodiscard]] virtual std::unique_ptr<Pending> start_shift(const void* mine,
                                                             std::int64_t mine_bytes, void* theirs,
                                                             std::int64_t theirs_bytes,
                                                             bool towards_first) = 0;

  /// Collective. Replaces a dense tensor (f32, f64 or i64) by its sum over the ranks, added up in
  /// the order of ranks: the same bits on every rank, in every run and for every kind of
  /// communicator but NCCL's (dist/nccl_communicator.h). Works through the tensor in pieces, so the
  /// memory it needs is bounded.
  void all_reduce_sum(const Tensor& tensor);

  /// Collective. Replaces `bytes` bytes by those of rank `root`. bytes = 0 is allowed.
  virtual void broadcast(void* data, std::int64_t bytes, int root) = 0;

  /// Collective. Returns when every rank has called it.
  virtual void barrier() = 0;

  /// Collective. The group of the ranks that name the same `color` (at least 0), in the order of
  /// their ranks here. Must not outlive this communicator.
  virtual std::unique_ptr<Communicator> split(int color) = 0;

  /// The same ranks, for data in the memory of their devices. Lives as long as this communicator.
  /// The first call is collective.
  virtual Communicator& for_device() { return *this; }

  /// In host memory and in that of devices together.
  virtual Traffic traffic() const { return traffic_; }

 protected:
  /// Adds the time from its making to its end to `seconds`.
  class Timed {
   public:
    explicit Timed(Traffic& traffic) : traffic_(traffic) {}
    Timed(const Timed&) = delete;
    Timed& operator=(const Timed&) = delete;
    ~Timed() { traffic_.seconds += std::chrono::duration<double>(Clock::now() - begin_).count(); }

   private:
    using Clock = std::chrono::steady_clock;
    Traffic& traffic_;
    Clock::time_point begin_ = Clock::now();
  };

  void count_call(std::int64_t bytes) {
    traffic_.bytes += bytes;
    ++traffic_.calls;
  }

  /// Replaces a piece of a tensor, [count] and dense, by its sum over the ranks.
  virtual void sum_piece(const Tensor& piece) = 0;
  /// Bytes of the largest piece: so many that latency does not count, so few that the copies which
  /// a sum makes do not either.
  virtual std::int64_t piece_bytes() const { return std::int64_t{4} << 20; }

  Traffic traffic_;
};

}  // namespace longscan

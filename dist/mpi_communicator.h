// Ranks as processes under MPI.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>

#include "dist/communicator.h"
#include "kernels/buffer.h"

namespace longscan {

/// MPI for the time of its life, for one thread that communicates (MPI_THREAD_FUNNELED). Where the
/// program has initialised MPI itself, it does nothing. Make one in `main`, before all
/// communicators.
class MpiEnvironment {
 public:
  /// Throws io when MPI does not start or supports no threads beside the one that communicates.
  MpiEnvironment(int* argument_count, char*** arguments);
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;
  /// When left by an error, ends the job with exit code 70: the other ranks may wait for this one,
  /// and MPI's orderly end would wait for them. Catch inside to print the error and choose the
  /// code.
  ~MpiEnvironment();

  /// Ends all ranks of the job with this exit code. For an error that only this rank has.
  [[noreturn]] void abort(int code) const;

 private:
  bool owner_ = false;
  int exceptions_ = 0;
};

/// Which of the ranks on its machine a rank is, for sharing out cores and devices.
struct NodePlace {
  int rank = 0;
  int size = 1;
};

class MpiCommunicator final : public Communicator {
 public:
  /// Messages above this many bytes are described by a datatype of their own, for MPI counts in
  /// int.
  static constexpr std::int64_t kLargestCount = std::int64_t{1} << 30;

  /// Collective over `parent`, which it duplicates: the program's own messages never meet these.
  /// Throws io. `largest_count` is for tests.
  explicit MpiCommunicator(MPI_Comm parent, std::int64_t largest_count = kLargestCount);
  ~MpiCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                            std::int64_t bytes) override;
  std::unique_ptr<Pending> start_shift(const void* mine, std::int64_t mine_bytes, void* theirs,
                                       std::int64_t theirs_bytes, bool towards_first) override;
  void broadcast(void* data, std::int64_t bytes, int root) override;
  void barrier() override;
  std::unique_ptr<Communicator> split(int color) override;

  /// Collective.
  NodePlace place_on_node() const;

  /// True when all ranks of the group have called this within `seconds`; false where some have not,
  /// after which this communicator is of no more use. It asks whether a failure is everybody's.
  bool all_arrive(double seconds) const;

 protected:
  void sum_piece(const Tensor& piece) override;

 private:
  class Requests;

  void sum_small(const Tensor& piece);
  void sum_by_parts(const Tensor& piece);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  std::int64_t largest_count_;
  Buffer scratch_;  ///< the parts of a sum, kept from call to call
};

}  // namespace longscan

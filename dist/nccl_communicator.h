// Ranks whose data lie in the memory of GPUs, carried from GPU to GPU by NCCL.
//
// A collective is given to a stream of its own, where it waits for the operations that were run
// before and goes on beside those that are run behind; `wait` makes later operations wait for it.
// The host waits for none of them. All of a rank's communicators take their turns in the order of
// its operations: while a collective of one is under way, none of another may be.
//
// NCCL adds up in an order that it chooses by the sizes and the machine, not in that of the ranks:
// the same bits on every rank, and in every run on the same machines, but other bits than those of
// the other communicators.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "dist/communicator.h"
#include "kernels/cuda/side_stream.h"
#include "kernels/cuda/stream_clock.h"
#include "kernels/device.h"

// As NCCL's header declares it, which users of the library need not have.
struct ncclComm;

namespace longscan {

/// Throws usage in a build without NCCL, and where the device is no GPU.
void require_nccl(Device& device);

/// A NcclCommunicator. Throws as require_nccl does.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Device& device);

class NcclCommunicator final : public Communicator {
 public:
  /// How long ranks may take to find each other, and to take leave.
  static constexpr std::chrono::milliseconds kPatience = std::chrono::minutes(5);

  /// Collective over `host`, which like `device` must outlive the object. Every rank has a GPU of
  /// its own. Throws usage where `device` is none, io where the ranks do not come together.
  NcclCommunicator(Communicator& host, Device& device,
                   std::chrono::milliseconds patience = kPatience);
  /// Collective, unless left by an error: then what is under way is aborted here, and fails on the
  /// other ranks as far as NCCL learns of it (over the network; on one machine the job's end tells
  /// them).
  ~NcclCommunicator() override;

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                            std::int64_t bytes) override;
  std::unique_ptr<Pending> start_shift(const void* mine, std::int64_t mine_bytes, void* theirs,
                                       std::int64_t theirs_bytes, bool towards_first) override;
  void broadcast(void* data, std::int64_t bytes, int root) override;
  /// Of the hosts.
  void barrier() override { host_.barrier(); }
  /// Has no use of its own: the host's communicator splits. Throws internal.
  std::unique_ptr<Communicator> split(int color) override;
  /// seconds: those of the GPU in collectives that have ended, whatever it did beside them.
  Traffic traffic() const override;

 private:
  class Arriving;
  struct Abort {
    void operator()(ncclComm* comm) const;
  };

  void sum_piece(const Tensor& piece) override;
  std::int64_t piece_bytes() const override;

  void come_together();
  /// A collective begins: it follows the operations that were run.
  void begin();
  /// It was given to the stream, and ends where the mark is.
  SideStream::Mark end();
  /// Waits until NCCL has taken a call, which said `status`, and aborts where it has not.
  void finish(int status, const char* call);
  int state() const;
  /// Throws where a collective that was taken has failed since.
  void check();
  bool takes_leave() const;

  Communicator& host_;
  Cuda& cuda_;
  std::chrono::milliseconds patience_;
  int exceptions_;
  SideStream stream_;
  mutable StreamClock clock_;              // which looks at what it has, when it is asked
  std::unique_ptr<ncclComm, Abort> comm_;  // null once it was aborted
  int watcher_;
};

}  // namespace longscan

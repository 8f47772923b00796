// Ranks with a GPU each: what lies in host memory goes the host's way, what lies in the GPUs' their
// own.
#pragma once

#include <memory>

#include "dist/communicator.h"
#include "kernels/device.h"

namespace longscan {

/// What carries data from one GPU's memory to another's.
enum class Carrier {
  nccl,  ///< NCCL, from GPU to GPU
  host,  ///< the host's communicator, through host memory
};

/// Whether this build has NCCL.
bool has_nccl();

class DeviceCommunicator final : public Communicator {
 public:
  /// `host` and `device` must outlive the object. Throws usage where the build or the device is not
  /// for the carrier.
  DeviceCommunicator(Communicator& host, Device& device, Carrier carrier);
  /// The same, with a communicator of its own.
  DeviceCommunicator(std::unique_ptr<Communicator> host, Device& device, Carrier carrier);

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                            std::int64_t bytes) override {
    return host_.start_all_gather(mine, all, bytes);
  }
  std::unique_ptr<Pending> start_shift(const void* mine, std::int64_t mine_bytes, void* theirs,
                                       std::int64_t theirs_bytes, bool towards_first) override {
    return host_.start_shift(mine, mine_bytes, theirs, theirs_bytes, towards_first);
  }
  void broadcast(void* data, std::int64_t bytes, int root) override {
    host_.broadcast(data, bytes, root);
  }
  void barrier() override { host_.barrier(); }
  std::unique_ptr<Communicator> split(int color) override;
  /// The first call is collective: the ranks find each other then, since a group that hands over
  /// nothing in the GPUs' memory needs nothing of the carrier.
  Communicator& for_device() override;
  Traffic traffic() const override;

 private:
  void sum_piece(const Tensor& piece) override { host_.all_reduce_sum(piece); }

  std::unique_ptr<Communicator> owned_;  // a part of a split
  Communicator& host_;
  Device& device_;
  Carrier carrier_;
  std::unique_ptr<Communicator> on_device_;  // null until it was asked for
};

}  // namespace longscan

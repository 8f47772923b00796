// Ranks whose data lie in the memory of devices, carried through host memory by another
// communicator: slower than devices that talk to each other, but it works wherever MPI does.
#pragma once

#include <memory>
#include <vector>

#include "dist/communicator.h"
#include "kernels/device.h"

namespace longscan {

class StagedCommunicator final : public Communicator {
 public:
  /// Both must outlive the object.
  StagedCommunicator(Communicator& host, Device& device) : host_(host), device_(device) {}

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }
  std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                            std::int64_t bytes) override;
  std::unique_ptr<Pending> start_shift(const void* mine, std::int64_t mine_bytes, void* theirs,
                                       std::int64_t theirs_bytes, bool towards_first) override;
  void broadcast(void* data, std::int64_t bytes, int root) override;
  void barrier() override { host_.barrier(); }
  /// Has no use of its own: the host's communicator splits. Throws internal.
  std::unique_ptr<Communicator> split(int color) override;

 private:
  class Arriving;

  void sum_piece(const Tensor& piece) override;
  /// Host memory of at least so many bytes, kept for later calls.
  Buffer lend(std::int64_t bytes);
  void give_back(Buffer buffer);
  Buffer sent(const void* mine, std::int64_t bytes);

  Communicator& host_;
  Device& device_;
  std::vector<Buffer> free_;
};

}  // namespace longscan

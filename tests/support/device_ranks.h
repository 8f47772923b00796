// Ranks with a GPU each, and a way to test what lies in GPUs' memory by tests of host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dist/device_communicator.h"
#include "dist/thread_communicator.h"
#include "tests/support/device_numbers.h"

namespace longscan::test {

/// What can carry data between GPUs here; nothing where there is none.
inline std::vector<Carrier> carriers() {
  if (find_cuda_devices().count == 0) return {};
  return has_nccl() ? std::vector{Carrier::host, Carrier::nccl} : std::vector{Carrier::host};
}

/// The same between threads that share a GPU: a real NCCL refuses, the emulated GPU's does not.
inline std::vector<Carrier> carriers_of_threads() {
  std::vector<Carrier> all = carriers();
  if (!all.empty() && Device::cuda(0).name() != "cuda_on_cpu") std::erase(all, Carrier::nccl);
  return all;
}

inline std::string name_of(Carrier carrier) {
  return carrier == Carrier::nccl ? "nccl" : "host";
}

/// Ranks as threads that share the first GPU.
inline void run_device_ranks(int ranks, Carrier carrier,
                             const std::function<void(Communicator&, Device&)>& body) {
  run_ranks(ranks, [&](Communicator& host) {
    Device device = Device::cuda(0);
    DeviceCommunicator group(host, device, carrier);
    body(group, device);
  });
}

/// Takes what lies in host memory over the devices' communicator: up to the device, across, down
/// again.
class ThroughDevice final : public Communicator {
 public:
  /// Collective: what ranks say to each other until they have come together does not count.
  ThroughDevice(Communicator& group, Device& device) : group_(group), device_(device) {
    group.for_device();
    before_ = group.traffic();
  }

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }

  std::unique_ptr<Pending> start_all_gather(const void* mine, void* all,
                                            std::int64_t bytes) override {
    auto moving = std::make_unique<Moving>(*this, mine, bytes, all, bytes * size());
    moving->start(group_.for_device().start_all_gather(moving->mine(), moving->theirs(), bytes));
    return moving;
  }
  std::unique_ptr<Pending> start_shift(const void* mine, std::int64_t mine_bytes, void* theirs,
                                       std::int64_t theirs_bytes, bool towards_first) override {
    // What an end of the line names is neither sent nor received, and need not be there.
    const bool receives = rank() != (towards_first ? size() - 1 : 0);
    auto moving =
        std::make_unique<Moving>(*this, mine, mine_bytes, theirs, receives ? theirs_bytes : 0);
    moving->start(group_.for_device().start_shift(moving->mine(), mine_bytes, moving->theirs(),
                                                  theirs_bytes, towards_first));
    return moving;
  }
  void broadcast(void* data, std::int64_t bytes, int root) override {
    Moving moving(*this, data, bytes, data, 0);
    group_.for_device().broadcast(moving.mine(), bytes, root);
    device_.download(data, bytes_at(moving.mine(), bytes));
  }
  void barrier() override { group_.for_device().barrier(); }
  std::unique_ptr<Communicator> split(int color) override {
    return std::make_unique<ThroughDevice>(group_.split(color), device_);
  }
  Traffic traffic() const override {
    const Traffic now = group_.traffic();
    // The sums of a rank alone do not get that far.
    const Traffic alone = size() == 1 ? traffic_ : Traffic{};
    return {.bytes = now.bytes - before_.bytes + alone.bytes,
            .calls = now.calls - before_.calls + alone.calls,
            .seconds = now.seconds - before_.seconds + alone.seconds};
  }

  /// A part of a split.
  ThroughDevice(std::unique_ptr<Communicator> group, Device& device)
      : ThroughDevice(*group, device) {
    owned_ = std::move(group);
  }

 private:
  static Tensor bytes_at(void* data, std::int64_t bytes) {
    return Tensor::dense(data, DType::u8, {bytes});
  }

  class Moving final : public Pending {
   public:
    Moving(ThroughDevice& owner, const void* mine, std::int64_t mine_bytes, void* theirs,
           std::int64_t theirs_bytes)
        : device_(owner.device_),
          mine_(device_.allocate(mine_bytes)),
          theirs_(device_.allocate(theirs_bytes)),
          to_(theirs),
          bytes_(theirs_bytes) {
      device_.upload(bytes_at(mine_.data(), mine_bytes), mine);
      device_.upload(bytes_at(theirs_.data(), theirs_bytes), theirs);
    }
    std::byte* mine() const { return mine_.data(); }
    std::byte* theirs() const { return theirs_.data(); }
    void start(std::unique_ptr<Pending> pending) { pending_ = std::move(pending); }
    void wait() override {
      pending_->wait();
      device_.download(to_, bytes_at(theirs_.data(), bytes_));
    }

   private:
    Device& device_;
    Buffer mine_;
    Buffer theirs_;
    void* to_;
    std::int64_t bytes_;
    std::unique_ptr<Pending> pending_;
  };

  void sum_piece(const Tensor& piece) override {
    Moving moving(*this, piece.data, piece.bytes(), piece.data, 0);
    Tensor on_device = piece;
    on_device.data = moving.mine();
    group_.for_device().all_reduce_sum(on_device);
    device_.download(piece.data, on_device);
  }
  // The communicator that is tested is to see a tensor as it is.
  std::int64_t piece_bytes() const override { return std::int64_t{1} << 40; }

  std::unique_ptr<Communicator> owned_;
  Communicator& group_;
  Device& device_;
  Traffic before_;
};

}  // namespace longscan::test

// Down to the host, across, and up again.
#include "dist/staged_communicator.h"

#include <algorithm>
#include <utility>

namespace longscan {

namespace {
Tensor bytes_at(void* data, std::int64_t bytes) {
  return Tensor::dense(data, DType::u8, {bytes});
}
Tensor bytes_at(const void* data, std::int64_t bytes) {
  return bytes_at(const_cast<void*>(data), bytes);  // a tensor to read from
}
}  // namespace

/// Data on their way into `to`, in the device's memory.
class StagedCommunicator::Arriving final : public Pending {
 public:
  Arriving(StagedCommunicator& owner, void* to, std::int64_t bytes, Buffer sent, Buffer received)
      : owner_(owner),
        to_(to),
        bytes_(bytes),
        sent_(std::move(sent)),
        received_(std::move(received)) {}

  void start(std::unique_ptr<Pending> pending) { pending_ = std::move(pending); }
  std::byte* received() const { return received_.data(); }
  const std::byte* sent() const { return sent_.data(); }

  void wait() override {
    const Timed timed(owner_.traffic_);
    pending_->wait();
    owner_.device_.upload(bytes_at(to_, bytes_), received_.data());
    owner_.give_back(std::move(sent_));
    owner_.give_back(std::move(received_));
  }

 private:
  StagedCommunicator& owner_;
  void* to_;
  std::int64_t bytes_;
  Buffer sent_;
  Buffer received_;
  std::unique_ptr<Pending> pending_;
};

std::unique_ptr<Pending> StagedCommunicator::start_all_gather(const void* mine, void* all,
                                                              std::int64_t bytes) {
  const Timed timed(traffic_);
  count_call(bytes);
  auto arriving = std::make_unique<Arriving>(*this, all, bytes * size(), sent(mine, bytes),
                                             lend(bytes * size()));
  arriving->start(host_.start_all_gather(arriving->sent(), arriving->received(), bytes));
  return arriving;
}

std::unique_ptr<Pending> StagedCommunicator::start_shift(const void* mine, std::int64_t mine_bytes,
                                                         void* theirs, std::int64_t theirs_bytes,
                                                         bool towards_first) {
  const Timed timed(traffic_);
  const bool sends = rank() != (towards_first ? 0 : size() - 1);
  const bool receives = rank() != (towards_first ? size() - 1 : 0);
  const std::int64_t out = sends ? mine_bytes : 0;
  const std::int64_t in = receives ? theirs_bytes : 0;
  count_call(out);
  auto arriving = std::make_unique<Arriving>(*this, theirs, in, sent(mine, out), lend(in));
  arriving->start(
      host_.start_shift(arriving->sent(), out, arriving->received(), in, towards_first));
  return arriving;
}

void StagedCommunicator::broadcast(void* data, std::int64_t bytes, int root) {
  const Timed timed(traffic_);
  if (rank() == root) count_call(bytes);
  Buffer staged = sent(data, bytes);
  host_.broadcast(staged.data(), bytes, root);
  device_.upload(bytes_at(data, bytes), staged.data());
  give_back(std::move(staged));
}

std::unique_ptr<Communicator> StagedCommunicator::split(int /*color*/) {
  require(false, "StagedCommunicator.split", "is the business of the host's communicator");
  return nullptr;
}

void StagedCommunicator::sum_piece(const Tensor& piece) {
  Buffer staged = sent(piece.data, piece.bytes());
  Tensor on_host = piece;
  on_host.data = staged.data();
  host_.all_reduce_sum(on_host);
  device_.upload(piece, staged.data());
  give_back(std::move(staged));
}

Buffer StagedCommunicator::lend(std::int64_t bytes) {
  const auto fits = std::find_if(free_.begin(), free_.end(),
                                 [&](const Buffer& buffer) { return buffer.bytes() >= bytes; });
  if (fits == free_.end()) return device_.allocate_on_host(bytes);
  Buffer buffer = std::move(*fits);
  free_.erase(fits);
  return buffer;
}

void StagedCommunicator::give_back(Buffer buffer) {
  if (buffer.bytes() == 0) return;
  const auto larger = std::find_if(free_.begin(), free_.end(), [&](const Buffer& other) {
    return other.bytes() > buffer.bytes();
  });
  free_.insert(larger, std::move(buffer));  // the smallest that fits is lent first
}

// A copy of what lies in the device's memory. Waiting for it also means that nobody reads from the
// buffers any more that earlier uploads came from.
Buffer StagedCommunicator::sent(const void* mine, std::int64_t bytes) {
  Buffer staged = lend(bytes);
  device_.download(staged.data(), bytes_at(mine, bytes));
  return staged;
}

}  // namespace longscan

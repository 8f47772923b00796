// One copy is all there is to do, behind the operations that were run.
#include "dist/lone_communicator.h"

#include "kernels/elementwise.h"

namespace longscan {

namespace {
class Arrived final : public Pending {
 public:
  void wait() override {}
};
}  // namespace

std::unique_ptr<Pending> LoneCommunicator::start_all_gather(const void* mine, void* all,
                                                            std::int64_t bytes) {
  const Timed timed(traffic_);
  count_call(bytes);
  const Tensor out = Tensor::dense(all, DType::u8, {bytes});
  // A tensor to read from.
  device_.run(Copy{.out = out, .in = Tensor::dense(const_cast<void*>(mine), DType::u8, {bytes})});
  return std::make_unique<Arrived>();
}

std::unique_ptr<Pending> LoneCommunicator::start_shift(const void* /*mine*/,
                                                       std::int64_t /*mine_bytes*/,
                                                       void* /*theirs*/,
                                                       std::int64_t /*theirs_bytes*/,
                                                       bool /*towards_first*/) {
  const Timed timed(traffic_);
  count_call(0);
  return std::make_unique<Arrived>();
}

void LoneCommunicator::broadcast(void* /*data*/, std::int64_t bytes, int /*root*/) {
  count_call(bytes);
}

std::unique_ptr<Communicator> LoneCommunicator::split(int /*color*/) {
  return std::make_unique<LoneCommunicator>(device_);
}

}  // namespace longscan

// Which carrier it is, and when it is needed.
#include "dist/device_communicator.h"

#include <utility>

#include "dist/lone_communicator.h"
#include "dist/nccl_communicator.h"
#include "dist/staged_communicator.h"

namespace longscan {

DeviceCommunicator::DeviceCommunicator(Communicator& host, Device& device, Carrier carrier)
    : host_(host), device_(device), carrier_(carrier) {
  if (carrier == Carrier::nccl) require_nccl(device);
}

DeviceCommunicator::DeviceCommunicator(std::unique_ptr<Communicator> host, Device& device,
                                       Carrier carrier)
    : DeviceCommunicator(*host, device, carrier) {
  owned_ = std::move(host);
}

Communicator& DeviceCommunicator::for_device() {
  if (on_device_) return *on_device_;
  if (size() == 1) {
    on_device_ = std::make_unique<LoneCommunicator>(device_);
  } else if (carrier_ == Carrier::nccl) {
    on_device_ = make_nccl_communicator(host_, device_);
  } else {
    on_device_ = std::make_unique<StagedCommunicator>(host_, device_);
  }
  return *on_device_;
}

std::unique_ptr<Communicator> DeviceCommunicator::split(int color) {
  return std::make_unique<DeviceCommunicator>(host_.split(color), device_, carrier_);
}

Traffic DeviceCommunicator::traffic() const {
  const Traffic host = host_.traffic();
  // What goes through the host is counted there as well.
  const bool through_host = carrier_ == Carrier::host && size() > 1;
  if (!on_device_ || through_host) return host;
  const Traffic device = on_device_->traffic();
  return {.bytes = host.bytes + device.bytes,
          .calls = host.calls + device.calls,
          .seconds = host.seconds + device.seconds};
}

}  // namespace longscan

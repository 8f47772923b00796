// Which carrier it is.
#include "dist/device_communicator.h"

#include <utility>

#include "dist/nccl_communicator.h"
#include "dist/staged_communicator.h"

namespace longscan {

namespace {

std::unique_ptr<Communicator> carried_by(Carrier carrier, Communicator& host, Device& device) {
  if (carrier == Carrier::nccl) return make_nccl_communicator(host, device);
  return std::make_unique<StagedCommunicator>(host, device);
}

}  // namespace

DeviceCommunicator::DeviceCommunicator(Communicator& host, Device& device, Carrier carrier)
    : host_(host),
      device_(device),
      carrier_(carrier),
      on_device_(carried_by(carrier, host, device)) {}

DeviceCommunicator::DeviceCommunicator(std::unique_ptr<Communicator> host, Device& device,
                                       Carrier carrier)
    : owned_(std::move(host)),
      host_(*owned_),
      device_(device),
      carrier_(carrier),
      on_device_(carried_by(carrier, host_, device)) {}

std::unique_ptr<Communicator> DeviceCommunicator::split(int color) {
  return std::make_unique<DeviceCommunicator>(host_.split(color), device_, carrier_);
}

Traffic DeviceCommunicator::traffic() const {
  const Traffic host = host_.traffic();
  const Traffic device = on_device_->traffic();
  // A carrier that goes through the host is counted there as well.
  if (carrier_ == Carrier::host) return host;
  return {.bytes = host.bytes + device.bytes,
          .calls = host.calls + device.calls,
          .seconds = host.seconds + device.seconds};
}

}  // namespace longscan

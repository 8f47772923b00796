// Who takes which GPU is settled by host names, as the ranks of a machine stand in the world.
#include "launch/rank_device.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "dist/agreement.h"
#include "dist/device_communicator.h"
#include "io/host_name.h"
#include "kernels/error.h"
#include "kernels/gpu_address.h"
#include "launch/verbs.h"

namespace longscan {

namespace {

/// Collective. The GPU of this rank among those that it sees: ranks of a machine take them in turn.
int gpu_index(const Session& session) {
  const std::vector<std::string> hosts = gather_texts(session.world(), host_name());
  const auto here = hosts.begin() + session.rank();
  const auto before = static_cast<int>(std::count(hosts.begin(), here, *here));
  return before % std::max(find_cuda_devices().count, 1);
}

/// Collective.
bool takes_gpu(const Session& session, const std::string& device) {
  if (device == "cuda") return true;  // where there is none, that is an error with its reason
  return !any_rank(session.world(), device == "cpu" || find_cuda_devices().count == 0);
}

/// Collective.
Device make_device(const Session& session, const DeviceChoice& choice, int index) {
  const int threads = session.threads(choice.threads);
  if (!takes_gpu(session, choice.device)) {
    const std::string why_none = find_cuda_devices().why_none;
    if (choice.precision == "fp32") return Device::cpu(threads);
    throw Error(ErrorKind::usage,
                {.what = fmt::format("the CPU cannot compute in {}", choice.precision),
                 .why = choice.device == "cpu" ? "only GPUs do"
                        : why_none.empty()     ? "some rank has no GPU"
                                               : why_none,
                 .hint = "take fp32, or ranks with GPUs",
                 .where = "--precision"});
  }
  std::optional<Device> device;
  on_all_ranks(session.world(),
               [&] { device = Device::cuda(index, {.tf32 = choice.precision == "tf32"}); });
  return std::move(*device);
}

/// Collective. Whether two ranks compute on the same GPU, whatever numbers they know it by.
bool share_gpus(const Session& session, int index) {
  std::vector<std::string> gpus =
      gather_texts(session.world(), host_name() + " " + gpu_address(index));
  std::sort(gpus.begin(), gpus.end());
  return std::adjacent_find(gpus.begin(), gpus.end()) != gpus.end();
}

/// Collective. NCCL does not take two ranks on one GPU.
Carrier carrier_of(const Session& session, const DeviceChoice& choice, int index) {
  if (choice.communicator == "mpi") return Carrier::host;
  if (choice.communicator == "nccl") return Carrier::nccl;
  const bool shared = share_gpus(session, index);
  return has_nccl() && !shared && session.ranks() > 1 ? Carrier::nccl : Carrier::host;
}

}  // namespace

DeviceChoice DeviceChoice::of(const config::Config& configuration) {
  const config::Parallel& parallel = configuration.parallel();
  return {.device = config::Parallel::Device_Name(parallel.device()),
          .communicator = config::Parallel::Communicator_Name(parallel.communicator()),
          .precision = config::Training::Precision_Name(configuration.training().precision()),
          .threads = parallel.threads()};
}

void DeviceChoice::declare(CLI::App& app) {
  app.add_option("--device", device, "auto: a GPU where every rank has one; cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--precision", precision, "fp32; on GPUs also tf32 or bf16")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16"}))
      ->capture_default_str();
  app.add_option("--communicator", communicator, "of GPUs: fastest, nccl or mpi")
      ->check(CLI::IsMember({"fastest", "nccl", "mpi"}))
      ->capture_default_str();
  app.add_option("--threads", threads, "threads a rank; 0: its share of the cores")
      ->check(CLI::Range(0, kMostThreads))
      ->capture_default_str();
}

RankDevice::RankDevice(Session& session, const DeviceChoice& choice)
    : RankDevice(session, choice, gpu_index(session)) {}

RankDevice::RankDevice(Session& session, const DeviceChoice& choice, int index)
    : session_(session), device_(make_device(session, choice, index)) {
  if (device_.on_host()) {
    description_ = counted(device_.threads(), "thread") + " each";
    return;
  }
  const Carrier carrier = carrier_of(session, choice, index);
  on_gpus_ = std::make_unique<DeviceCommunicator>(session.world(), device_, carrier);
  description_ = fmt::format("{} each, {}, by {}", device_.name(), choice.precision,
                             carrier == Carrier::nccl ? "NCCL" : "MPI");
}

}  // namespace longscan

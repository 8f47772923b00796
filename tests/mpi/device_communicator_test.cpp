// Ranks that are processes with a GPU each: the common suites, over host memory and over NCCL.
// Needs GPUs, and is run by tests/gpu.sh.
#include <cstdlib>
#include <string>
#include <vector>

#include "dist/mpi_communicator.h"
#include "tests/support/communicator_suite.h"
#include "tests/support/device_suite.h"
#include "tests/support/mpi_main.h"

namespace longscan::test {
namespace {

/// The ranks of a machine take its GPUs in turn.
void on_processes(Carrier carrier, const std::function<void(Communicator&, Device&)>& body) {
  MpiCommunicator world(MPI_COMM_WORLD);
  Device device = Device::cuda(world.place_on_node().rank % find_cuda_devices().count);
  DeviceCommunicator group(world, device, carrier);
  body(group, device);
}

/// NCCL refuses two ranks on one GPU, unless each of them is told that it is on a machine of its
/// own (NCCL_HOSTID).
bool nccl_takes_ranks() {
  const MpiCommunicator world(MPI_COMM_WORLD);
  return world.place_on_node().size <= find_cuda_devices().count || std::getenv("NCCL_HOSTID");
}

std::vector<Carrier> carriers_here() {
  std::vector<Carrier> all = carriers();
  if (!all.empty() && !nccl_takes_ranks()) std::erase(all, Carrier::nccl);
  return all;
}

std::vector<Ranks> ranks_of_host_memory() {
  std::vector<Ranks> all;
  for (const Carrier carrier : carriers_here()) {
    const auto run = [carrier](const auto& body) {
      on_processes(carrier, [&](Communicator& group, Device& device) {
        ThroughDevice through(group, device);
        body(through);
      });
    };
    all.push_back(
        {.name = name_of(carrier), .run = run, .sums_in_rank_order = carrier != Carrier::nccl});
  }
  return all;
}

std::vector<DeviceRanks> ranks_of_device_memory() {
  std::vector<DeviceRanks> all;
  for (const Carrier carrier : carriers_here()) {
    all.push_back({name_of(carrier), [=](const auto& body) { on_processes(carrier, body); }});
  }
  return all;
}

// Without a GPU:
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CommunicatorTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceRanksTest);
INSTANTIATE_TEST_SUITE_P(Processes, CommunicatorTest, testing::ValuesIn(ranks_of_host_memory()),
                         [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(Processes, DeviceRanksTest, testing::ValuesIn(ranks_of_device_memory()),
                         [](const auto& test) { return test.param.name; });

TEST(DeviceCommunicator, has_gpus_to_carry_between) {
  if (carriers().empty()) GTEST_SKIP() << find_cuda_devices().why_none;
  if (carriers_here() != carriers()) {
    GTEST_SKIP() << "NCCL is left out: there are more ranks than GPUs, and no NCCL_HOSTID";
  }
}

}  // namespace
}  // namespace longscan::test

int main(int argument_count, char** arguments) {
  return longscan::test::run_mpi_tests(argument_count, arguments);
}

// NCCL's functions for ranks that are threads of one process. As with NCCL, calls return before
// they are done and must be polled, what they start ends later, and sums are added up in no order
// that a program may rely on.
#include "tests/cuda_on_cpu/nccl_on_cpu.h"

#include <nccl.h>

#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/stream.h"

namespace longscan::cuda_on_cpu {
namespace {

using Bytes = std::vector<std::byte>;

// What the ranks of a communicator have handed to one collective.
struct Round {
  std::vector<std::optional<Bytes>> parts;
  std::string call;
  int readers = 0;
};

// The ranks that have named the same id.
struct Group {
  int size = 0;
  int arrived = 0;
  ncclResult_t broken = ncclSuccess;
  std::vector<bool> gone;
  std::map<std::int64_t, Round> rounds;
  std::map<std::tuple<int, int, std::int64_t>, Bytes> messages;  // from, to, number
};

struct World {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, Group> groups;
  NcclCounts counts;
};

World& world() {
  static World instance;
  return instance;
}

// The caller holds the mutex.
void break_group(Group& group, ncclResult_t why) {
  if (group.broken == ncclSuccess) group.broken = why;
  world().changed.notify_all();
}

// Waits for what a rank has to bring; false where it will never come. What was aborted touches
// memory no more.
bool wait_for(std::unique_lock<std::mutex>& lock, Group& group, int rank,
              const std::function<bool()>& there) {
  const auto is_broken = [&] { return group.broken != ncclSuccess; };
  const auto is_gone = [&] { return group.gone[static_cast<std::size_t>(rank)]; };
  world().changed.wait(lock, [&] { return is_broken() || there() || is_gone(); });
  if (!is_broken() && !there()) break_group(group, ncclRemoteError);
  return !is_broken();
}

// What was given to a stream: it begins with what this rank brings, and ends when the others have
// brought theirs.
struct Operation {
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::function<std::function<void()>()> begin;  // returns the end
};

constexpr int kPolls = 3;  // until a call is through

thread_local int group_depth = 0;
thread_local std::vector<Operation> grouped;

}  // namespace
}  // namespace longscan::cuda_on_cpu

using namespace longscan::cuda_on_cpu;

struct ncclComm {
  Group* group = nullptr;
  int rank = 0;
  std::int64_t rounds = 0;
  std::map<int, std::int64_t> sent;
  std::map<int, std::int64_t> received;
  int polls = kPolls;
  std::vector<Operation> taking;  // not yet given to their stream
  cudaStream_t stream = nullptr;
  bool finalized = false;
};

namespace longscan::cuda_on_cpu {
namespace {

std::size_t bytes_of(ncclDataType_t type) {
  return type == ncclUint8 ? 1 : type == ncclFloat32 ? 4 : 8;
}

// The caller holds the mutex.
ncclResult_t state_of(const ncclComm& comm) {
  if (comm.group->broken != ncclSuccess) return comm.group->broken;
  return comm.group->arrived < comm.group->size || comm.polls > 0 ? ncclInProgress : ncclSuccess;
}

void give_to_stream(const Operation& operation) {
  operation.comm->stream = operation.stream;
  if (capture_of(operation.stream) != nullptr) {
    enqueue(operation.stream, WorkKind::kernel, [begin = operation.begin] { begin()(); });
  } else {
    enqueue_late(operation.stream, operation.begin());
  }
}

ncclResult_t take(Operation operation) {
  if (group_depth > 0) {
    grouped.push_back(std::move(operation));
    return ncclSuccess;
  }
  ncclComm& comm = *operation.comm;
  const std::lock_guard lock(world().mutex);
  if (comm.finalized || state_of(comm) == ncclInProgress) return ncclInvalidUsage;
  if (comm.group->broken != ncclSuccess) return comm.group->broken;
  comm.taking.push_back(std::move(operation));
  comm.polls = kPolls;
  return ncclInProgress;
}

// A collective: every rank brings a part, and `read` makes the result of all of them.
ncclResult_t take_round(ncclComm_t comm, cudaStream_t stream, std::string call, const void* mine,
                        std::size_t mine_bytes, void* result, std::size_t result_bytes,
                        std::function<void(const std::vector<std::optional<Bytes>>&)> read) {
  if (!on_device(mine, mine_bytes) || !on_device(result, result_bytes)) return ncclInvalidArgument;
  const auto begin = [=, read = std::move(read)]() -> std::function<void()> {
    const std::lock_guard lock(world().mutex);
    const std::int64_t number = comm->rounds++;
    Group& group = *comm->group;
    Round& round = group.rounds[number];
    round.parts.resize(static_cast<std::size_t>(group.size));
    if (round.call.empty()) round.call = call;
    if (round.call != call) break_group(group, ncclInvalidUsage);
    const DeviceMemoryOpen open;
    const auto* bytes = static_cast<const std::byte*>(mine);
    round.parts[static_cast<std::size_t>(comm->rank)] = Bytes(bytes, bytes + mine_bytes);
    world().changed.notify_all();
    return [&group, number, read] {
      std::unique_lock lock(world().mutex);
      Round& round = group.rounds[number];
      for (int rank = 0; rank < group.size; ++rank) {
        const auto& part = round.parts[static_cast<std::size_t>(rank)];
        if (!wait_for(lock, group, rank, [&] { return part.has_value(); })) return;
      }
      const DeviceMemoryOpen open;
      read(round.parts);
      if (++round.readers == group.size) group.rounds.erase(number);
    };
  };
  return take({comm, stream, begin});
}

// As round a ring: every element is added up from another rank on.
template <class T>
void sum(T* result, std::size_t count, const std::vector<std::optional<Bytes>>& parts) {
  for (std::size_t i = 0; i < count; ++i) {
    T total{};
    for (std::size_t step = 0; step < parts.size(); ++step) {
      T addend;
      const Bytes& part = *parts[(i + step) % parts.size()];
      std::memcpy(&addend, part.data() + i * sizeof(T), sizeof(T));
      total = step == 0 ? addend : total + addend;
    }
    result[i] = total;
  }
}

}  // namespace

NcclCounts nccl_counts() {
  const std::lock_guard lock(world().mutex);
  return world().counts;
}

void break_nccl() {
  const std::lock_guard lock(world().mutex);
  for (auto& [id, group] : world().groups) break_group(group, ncclSystemError);
}

}  // namespace longscan::cuda_on_cpu

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "no error";
  }
}

const char* ncclGetLastError(ncclComm_t) {
  return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(world().mutex);
  const std::string name = std::to_string(world().groups.size());
  world().groups[name];
  *id = {};
  std::memcpy(id->internal, name.data(), name.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *comm = nullptr;
  const std::lock_guard lock(world().mutex);
  const auto found = world().groups.find(id.internal);
  if (config->blocking != 0 || found == world().groups.end()) return ncclInvalidArgument;
  Group& group = found->second;
  group.size = ranks;
  group.gone.resize(static_cast<std::size_t>(ranks));
  ++group.arrived;
  ++world().counts.made;
  auto made = std::make_unique<ncclComm>();
  made->group = &group;
  made->rank = rank;
  *comm = made.release();
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  std::vector<Operation> through;
  {
    const std::lock_guard lock(world().mutex);
    if (comm->polls > 0 && comm->group->arrived == comm->group->size && --comm->polls == 0) {
      through = std::exchange(comm->taking, {});
    }
    *state = state_of(*comm);
  }
  if (*state == ncclSuccess) {
    for (const Operation& operation : through) give_to_stream(operation);
    if (comm->finalized && comm->stream != nullptr) end_late_work(comm->stream);
  }
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const std::lock_guard lock(world().mutex);
  if (comm->finalized) return ncclInvalidUsage;
  comm->finalized = true;
  comm->polls = kPolls;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const std::unique_ptr<ncclComm> owner(comm);
  const std::lock_guard lock(world().mutex);
  if (!comm->finalized) break_group(*comm->group, ncclInvalidUsage);
  comm->group->gone[static_cast<std::size_t>(comm->rank)] = true;
  ++world().counts.destroyed;
  world().changed.notify_all();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const std::unique_ptr<ncclComm> owner(comm);
  const std::lock_guard lock(world().mutex);
  break_group(*comm->group, ncclRemoteError);
  ++world().counts.aborted;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group_depth > 0 || grouped.empty()) return ncclSuccess;
  // All begin before one of them ends: what they do to each other is theirs.
  std::vector<Operation> operations = std::exchange(grouped, {});
  const Operation whole{operations.front().comm, operations.front().stream, [operations] {
                          std::vector<std::function<void()>> ends;
                          for (const Operation& one : operations) ends.push_back(one.begin());
                          return [ends] {
                            for (const auto& end : ends) end();
                          };
                        }};
  return take(whole);
}

ncclResult_t ncclAllGather(const void* mine, void* all, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  const auto ranks = static_cast<std::size_t>(comm->group->size);
  return take_round(comm, stream, "all-gather of " + std::to_string(bytes), mine, bytes, all,
                    ranks * bytes, [=](const auto& parts) {
                      for (std::size_t rank = 0; rank < ranks; ++rank) {
                        std::memcpy(static_cast<std::byte*>(all) + rank * bytes,
                                    parts[rank]->data(), bytes);
                      }
                    });
}

ncclResult_t ncclBroadcast(const void* mine, void* result, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  return take_round(comm, stream, "broadcast of " + std::to_string(bytes), mine, bytes, result,
                    bytes, [=](const auto& parts) {
                      std::memcpy(result, parts[static_cast<std::size_t>(root)]->data(), bytes);
                    });
}

ncclResult_t ncclAllReduce(const void* mine, void* result, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  if (operation != ncclSum) return ncclInvalidArgument;
  const std::size_t bytes = count * bytes_of(type);
  return take_round(comm, stream, "sum of " + std::to_string(bytes), mine, bytes, result, bytes,
                    [=](const auto& parts) {
                      if (type == ncclFloat32) sum(static_cast<float*>(result), count, parts);
                      if (type == ncclFloat64) sum(static_cast<double*>(result), count, parts);
                      if (type == ncclInt64) sum(static_cast<std::int64_t*>(result), count, parts);
                    });
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int to, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  if (!on_device(data, bytes)) return ncclInvalidArgument;
  return take(
      {comm, stream, [=]() -> std::function<void()> {
         const std::lock_guard lock(world().mutex);
         const DeviceMemoryOpen open;
         const auto* begin = static_cast<const std::byte*>(data);
         comm->group->messages[{comm->rank, to, comm->sent[to]++}] = Bytes(begin, begin + bytes);
         world().changed.notify_all();
         return [] {};
       }});
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int from, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  if (!on_device(data, bytes)) return ncclInvalidArgument;
  return take({comm, stream, [=]() -> std::function<void()> {
                 Group& group = *comm->group;
                 const std::tuple key{from, comm->rank, comm->received[from]++};
                 return [=, &group] {
                   std::unique_lock lock(world().mutex);
                   const auto sent = [&] { return group.messages.contains(key); };
                   if (!wait_for(lock, group, from, sent)) return;
                   const Bytes message = std::move(group.messages.extract(key).mapped());
                   if (message.size() != bytes) return break_group(group, ncclInvalidUsage);
                   const DeviceMemoryOpen open;
                   std::memcpy(data, message.data(), bytes);
                 };
               }});
}

}  // extern "C"

// NCCL's calls return before they are done and are polled: an error, here or on another rank, ends
// the waiting.
#include "dist/nccl_communicator.h"

#include <nccl.h>

#include <exception>
#include <limits>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "dist/device_communicator.h"
#include "dist/nccl_check.h"
#include "kernels/error.h"

namespace longscan {

namespace {

constexpr const char* kHint =
    "NCCL_DEBUG=WARN tells more; --communicator=mpi does without NCCL, through host memory";

Cuda& gpu_of(Device& device) {
  if (auto* cuda = std::get_if<Cuda>(&device.backend())) return *cuda;
  throw Error(ErrorKind::usage, {.what = "NCCL has nothing to carry",
                                 .why = "it carries data between GPUs, and the device is none",
                                 .hint = "take --communicator=mpi or --device=cuda"});
}

std::size_t size_for_nccl(std::int64_t count) {
  return static_cast<std::size_t>(count);
}

ncclDataType_t type_of(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::i64:
      return ncclInt64;
    default:
      throw Error(ErrorKind::internal,
                  {.what = fmt::format("{} cannot be summed over ranks", describe(tensor)),
                   .why = "sums are of f32, f64 or i64"});
  }
}

}  // namespace

bool has_nccl() {
  return true;
}

void require_nccl(Device& device) {
  gpu_of(device);
}

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, Device& device) {
  return std::make_unique<NcclCommunicator>(host, device);
}

void check_nccl(int status, const char* call, std::source_location source) {
  if (status == ncclSuccess) return;
  std::string why = ncclGetErrorString(static_cast<ncclResult_t>(status));
  const std::string details = ncclGetLastError(nullptr);
  if (!details.empty()) why += fmt::format(" ({})", details);
  throw Error(ErrorKind::io, {.what = fmt::format("{} failed", call), .why = why, .hint = kHint},
              source);
}

// What it calls must have been taken in full before the communicator may be called again.
#define NCCL_FINISH(call) finish((call), #call)

/// A collective that was given to the stream.
class NcclCommunicator::Arriving final : public Pending {
 public:
  explicit Arriving(NcclCommunicator& owner) : owner_(owner), mark_(owner.end()) {}
  Arriving(const Arriving&) = delete;
  Arriving& operator=(const Arriving&) = delete;
  // Nobody has waited, and the memory that it works on may be gone before it ends.
  ~Arriving() override {
    if (mark_) owner_.comm_.reset();
  }

  void wait() override {
    owner_.check();
    owner_.stream_.operations_follow(std::move(mark_));
  }

 private:
  NcclCommunicator& owner_;
  SideStream::Mark mark_;
};

NcclCommunicator::NcclCommunicator(Communicator& host, Device& device,
                                   std::chrono::milliseconds patience)
    : host_(host),
      cuda_(gpu_of(device)),
      patience_(patience),
      exceptions_(std::uncaught_exceptions()),
      stream_(cuda_) {
  come_together();
  watcher_ = cuda_.watch([this] { check(); });
}

void NcclCommunicator::come_together() {
  ncclUniqueId id{};
  if (rank() == 0) NCCL_CHECK(ncclGetUniqueId(&id));
  host_.broadcast(&id, sizeof(id), 0);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const auto end = std::chrono::steady_clock::now() + patience_;
  int status = ncclCommInitRankConfig(&comm, size(), id, rank(), &config);
  comm_.reset(comm);
  while (status == ncclInProgress && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    status = state();
  }
  if (status == ncclInProgress) {
    throw Error(ErrorKind::io,
                {.what = "ranks do not find each other over NCCL",
                 .why = fmt::format("rank {} has waited for {} s", rank(),
                                    std::chrono::duration<double>(patience_).count()),
                 .hint = kHint});
  }
  check_nccl(status, "ncclCommInitRankConfig (every rank needs a GPU of its own)");
}

NcclCommunicator::~NcclCommunicator() {
  cuda_.unwatch(watcher_);
  // Left by an error, the others may never come to what taking leave waits for.
  const bool in_order = comm_ && std::uncaught_exceptions() == exceptions_;
  if (in_order && takes_leave()) ncclCommDestroy(comm_.release());
}

bool NcclCommunicator::takes_leave() const {
  const auto end = std::chrono::steady_clock::now() + patience_;
  int status = ncclCommFinalize(comm_.get());
  while (status == ncclInProgress && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
    status = state();
  }
  return status == ncclSuccess;
}

void NcclCommunicator::Abort::operator()(ncclComm* comm) const {
  ncclCommAbort(comm);
}

int NcclCommunicator::state() const {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t status = ncclCommGetAsyncError(comm_.get(), &state);
  return status == ncclSuccess ? state : status;
}

void NcclCommunicator::begin() {
  check();
  stream_.follow_operations();
  clock_.start(stream_.stream());
}

SideStream::Mark NcclCommunicator::end() {
  clock_.stop(stream_.stream());
  return stream_.mark();
}

void NcclCommunicator::finish(int status, const char* call) {
  while (status == ncclInProgress) {
    status = state();
    if (status == ncclInProgress) std::this_thread::yield();
  }
  if (status == ncclSuccess) return;
  comm_.reset();
  check_nccl(status, call);
}

void NcclCommunicator::check() {
  if (!comm_) {
    throw Error(ErrorKind::io, {.what = "a collective cannot complete",
                                .why = "NCCL has failed before, or a collective was given up"});
  }
  const int status = state();
  if (status == ncclSuccess || status == ncclInProgress) return;
  comm_.reset();  // ends what waits on the GPU
  check_nccl(status, "a collective under way");
}

std::unique_ptr<Pending> NcclCommunicator::start_all_gather(const void* mine, void* all,
                                                            std::int64_t bytes) {
  count_call(bytes);
  begin();
  if (bytes > 0) {
    NCCL_FINISH(
        ncclAllGather(mine, all, size_for_nccl(bytes), ncclUint8, comm_.get(), stream_.stream()));
  }
  return std::make_unique<Arriving>(*this);
}

std::unique_ptr<Pending> NcclCommunicator::start_shift(const void* mine, std::int64_t mine_bytes,
                                                       void* theirs, std::int64_t theirs_bytes,
                                                       bool towards_first) {
  const int to = rank() + (towards_first ? -1 : 1);
  const int from = rank() - (towards_first ? -1 : 1);
  const auto is_there = [&](int rank) { return rank >= 0 && rank < size(); };
  const std::int64_t out = is_there(to) ? mine_bytes : 0;
  const std::int64_t in = is_there(from) ? theirs_bytes : 0;
  count_call(out);
  begin();
  NCCL_FINISH(ncclGroupStart());
  // Calls in a group are only noted; what they say of its work, the group's end says.
  if (out > 0) {
    ncclSend(mine, size_for_nccl(out), ncclUint8, to, comm_.get(), stream_.stream());
  }
  if (in > 0) {
    ncclRecv(theirs, size_for_nccl(in), ncclUint8, from, comm_.get(), stream_.stream());
  }
  NCCL_FINISH(ncclGroupEnd());
  return std::make_unique<Arriving>(*this);
}

void NcclCommunicator::broadcast(void* data, std::int64_t bytes, int root) {
  count_call(rank() == root ? bytes : 0);
  if (bytes == 0) return check();
  begin();
  NCCL_FINISH(ncclBroadcast(data, data, size_for_nccl(bytes), ncclUint8, root, comm_.get(),
                            stream_.stream()));
  stream_.operations_follow(end());
}

std::unique_ptr<Communicator> NcclCommunicator::split(int /*color*/) {
  require(false, "NcclCommunicator.split", "is the business of the host's communicator");
  return nullptr;
}

Traffic NcclCommunicator::traffic() const {
  return {.bytes = traffic_.bytes, .calls = traffic_.calls, .seconds = clock_.seconds()};
}

void NcclCommunicator::sum_piece(const Tensor& piece) {
  const ncclDataType_t type = type_of(piece);
  begin();
  NCCL_FINISH(ncclAllReduce(piece.data, piece.data, size_for_nccl(piece.size()), type, ncclSum,
                            comm_.get(), stream_.stream()));
  stream_.operations_follow(end());
}

// NCCL itself works through it in pieces.
std::int64_t NcclCommunicator::piece_bytes() const {
  return std::numeric_limits<std::int64_t>::max();
}

}  // namespace longscan

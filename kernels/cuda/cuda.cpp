// Memory, waiting, and what kernels have reported.
#include "kernels/cuda/cuda.h"

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "kernels/backends.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/fault_words.h"
#include "kernels/error.h"
#include "kernels/gpu_address.h"
#include "kernels/tensor.h"

namespace longscan {

namespace {

// Room for uploads, at first, and what is copied without it: not the tensors of a line, unless a
// rank has more than two million of its tokens at once.
constexpr std::int64_t kLeastUploads = std::int64_t{4} << 20;
constexpr std::int64_t kLargestUpload = std::int64_t{16} << 20;

void free_on_gpu(std::byte* data) {
  cudaFree(data);
}
void free_on_host(std::byte* data) {
  cudaFreeHost(data);
}

int attribute_of(int index, cudaDeviceAttr attribute) {
  int value = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, index));
  return value;
}

// 0 where nothing was reported.
void throw_fault(unsigned long long word, const char* what, const char* rule) {
  if (word == 0) return;
  throw Error(ErrorKind::data,
              {.what = fmt::format("{} {}", what, static_cast<std::int64_t>(word) - kFaultBias),
               .why = rule});
}

}  // namespace

void check_cuda(cudaError_t status, const char* call, std::source_location source) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else it would come up again, elsewhere
  if (status == cudaErrorMemoryAllocation) {
    throw Error(ErrorKind::usage,
                {.what = "the GPU's memory is full",
                 .why = "the model and the activations of a segment have no room in it",
                 .hint = "take shorter segments, more ranks, bf16 or model.reversible"},
                source);
  }
  throw Error(ErrorKind::internal,
              {.what = fmt::format("{} failed", call), .why = cudaGetErrorString(status)}, source);
}

CudaDevices find_cuda_devices() {
  CudaDevices found;
  const cudaError_t status = cudaGetDeviceCount(&found.count);
  if (status == cudaSuccess && found.count > 0) return found;
  cudaGetLastError();
  found.count = 0;
  found.why_none =
      status == cudaSuccess || status == cudaErrorNoDevice
          ? "the machine shows no GPU"
          : fmt::format("the CUDA driver does not answer: {}", cudaGetErrorString(status));
  return found;
}

std::string gpu_address(int index) {
  cudaDeviceProp properties{};
  CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
  std::string address;
  for (const char byte : properties.uuid.bytes) {
    address += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return address;
}

Backend make_cuda(int index, const CudaOptions& options) {
  const CudaDevices found = find_cuda_devices();
  if (found.count == 0) {
    throw Error(ErrorKind::usage, {.what = "there is no GPU to compute on",
                                   .why = found.why_none,
                                   .hint = "see what nvidia-smi says, or use the CPU"});
  }
  if (index < 0 || index >= found.count) {
    throw Error(ErrorKind::usage, {.what = fmt::format("there is no GPU {}", index),
                                   .why = fmt::format("the machine has {}", found.count)});
  }
  return Backend(std::in_place_type<Cuda>, index, options);
}

Cuda::Cuda(int index, const CudaOptions& options) : index_(index) {
  CUDA_CHECK(cudaSetDevice(index));
  multiprocessors_ = attribute_of(index, cudaDevAttrMultiProcessorCount);
  shared_memory_ = attribute_of(index, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  stream_.reset(stream);
  for (Half& half : halves_) {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    half.copied.reset(event);
  }
  faults_ = allocate(sizeof(Faults));
  faults_on_host_ = allocate_on_host(sizeof(Faults));
  blas_ = std::make_unique<Blas>(allocate(Blas::kWorkspaceBytes), options.tf32);
}

Cuda::Cuda(Cuda&&) noexcept = default;
Cuda& Cuda::operator=(Cuda&&) noexcept = default;
Cuda::~Cuda() = default;

void Cuda::DestroyStream::operator()(CUstream_st* stream) const {
  cudaStreamDestroy(stream);
}

void Cuda::DestroyEvent::operator()(CUevent_st* event) const {
  cudaEventDestroy(event);
}

std::string Cuda::name() const {
  cudaDeviceProp properties{};
  CUDA_CHECK(cudaGetDeviceProperties(&properties, index_));
  return properties.name;
}

std::int64_t Cuda::memory_used() const {
  std::size_t free = 0;
  std::size_t total = 0;
  CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return static_cast<std::int64_t>(total - free);
}

Buffer Cuda::allocate(std::int64_t bytes) {
  require(bytes >= 0, "Cuda.allocate", "is not negative");
  if (bytes == 0) return {};
  const auto size = static_cast<std::size_t>(bytes);
  void* data = nullptr;
  CUDA_CHECK(cudaMalloc(&data, size));
  Buffer buffer(static_cast<std::byte*>(data), bytes, free_on_gpu);
  CUDA_CHECK(cudaMemsetAsync(data, 0, size, stream()));
  ++allocations_;
  return buffer;
}

Buffer Cuda::allocate_on_host(std::int64_t bytes) {
  require(bytes >= 0, "Cuda.allocate_on_host", "is not negative");
  if (bytes == 0) return {};
  const auto size = static_cast<std::size_t>(bytes);
  void* data = nullptr;
  CUDA_CHECK(cudaMallocHost(&data, size));
  Buffer buffer(static_cast<std::byte*>(data), bytes, free_on_host);
  std::memset(data, 0, size);
  return buffer;
}

void Cuda::upload(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  const auto size = static_cast<std::size_t>(bytes);
  // The runtime would wait for the stream before it reads pageable memory. (What allocate_on_host
  // gave and is larger must stay until somebody waits.)
  if (bytes <= kLargestUpload) {
    std::byte* room = upload_room(bytes);
    std::memcpy(room, from, size);
    from = room;
  }
  CUDA_CHECK(cudaMemcpyAsync(to, from, size, cudaMemcpyHostToDevice, stream()));
}

std::byte* Cuda::upload_room(std::int64_t bytes) {
  constexpr std::int64_t kAlignment = 64;
  const std::int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (halves_[half_].used + rounded > halves_[half_].memory.bytes()) {
    CUDA_CHECK(cudaEventRecord(halves_[half_].copied.get(), stream()));
    half_ = 1 - half_;
    Half& next = halves_[half_];
    wait_until([&] { return cudaEventQuery(next.copied.get()); },
               [&] { CUDA_CHECK(cudaEventSynchronize(next.copied.get())); });
    next.used = 0;
    // Room for all that goes with the largest tensor of a line: the host may then be a line ahead.
    const std::int64_t wanted = std::max(kLeastUploads, 4 * rounded);
    if (next.memory.bytes() < wanted) next.memory = allocate_on_host(wanted);
  }
  Half& half = halves_[half_];
  std::byte* room = half.memory.data() + half.used;
  half.used += rounded;
  return room;
}

void Cuda::download(void* to, const void* from, std::int64_t bytes) {
  // A copy to pageable memory waits inside the runtime, where no watcher is heard.
  if (!watchers_.empty()) wait();
  if (bytes > 0) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost,
                               stream()));
  }
  synchronize();
}

void Cuda::synchronize() {
  CUDA_CHECK(cudaMemcpyAsync(faults_on_host_.data(), faults_.data(), sizeof(Faults),
                             cudaMemcpyDeviceToHost, stream()));
  wait();
  throw_faults();
}

int Cuda::watch(std::function<void()> check) {
  const int watcher = watchers_.empty() ? 0 : watchers_.rbegin()->first + 1;
  watchers_.emplace(watcher, std::move(check));
  return watcher;
}

void Cuda::unwatch(int watcher) {
  watchers_.erase(watcher);
}

void Cuda::wait() {
  wait_until([&] { return cudaStreamQuery(stream()); },
             [&] { CUDA_CHECK(cudaStreamSynchronize(stream())); });
}

template <class Query, class Wait>
void Cuda::wait_until(Query&& query, Wait&& wait) {
  if (watchers_.empty()) return wait();
  for (;;) {
    for (const auto& [watcher, check] : watchers_) check();
    const cudaError_t status = query();
    if (status != cudaErrorNotReady) return CUDA_CHECK(status);
    cudaGetLastError();  // else it would come up as the error of the next kernel
    // Short beside a step, and long enough to leave the core to the threads that carry data.
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

void Cuda::throw_faults() {
  const Faults faults = *reinterpret_cast<const Faults*>(faults_on_host_.data());
  if (faults == Faults{}) return;
  CUDA_CHECK(cudaMemsetAsync(faults_.data(), 0, sizeof(Faults), stream()));
  throw_fault(faults.index_outside_table, "index", "which is outside the table");
  throw_fault(faults.target_beyond_vocabulary, "target", "which is beyond the vocabulary");
  throw_fault(faults.position_beyond_projection, "position",
              "which is beyond the longest document that Linformer projects");
}

void Cuda::replay(Recording& recording, const std::function<void()>& body) {
  // What has been allocated since may have moved the operands. The first time, body allocates.
  if (!recording.run_before || (recording.graph && recording.allocations != allocations_)) {
    recording.graph.reset();
    body();
    recording.run_before = true;
    return;
  }
  if (!recording.graph) record(recording, body);
  CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording.graph.get()), stream()));
}

void Cuda::record(Recording& recording, const std::function<void()>& body) {
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(stream(), &graph);
    throw;
  }
  CUDA_CHECK(cudaStreamEndCapture(stream(), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  CUDA_CHECK(status);
  recording.graph = {executable,
                     [](void* old) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(old)); }};
  recording.allocations = allocations_;
}

std::byte* Cuda::scratch_bytes(std::int64_t bytes) {
  if (scratch_.bytes() < bytes) {
    scratch_ = {};  // first: both need not be there at once. cudaFree waits for who reads it.
    scratch_ = allocate(bytes);
  }
  return scratch_.data();
}

}  // namespace longscan

// The CUDA runtime's functions about streams, events and captures.
#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "tests/cuda_on_cpu/executor.h"
#include "tests/cuda_on_cpu/host_calls.h"
#include "tests/cuda_on_cpu/stream.h"

namespace longscan::cuda_on_cpu {

/// A capture that has begun, and its streams: the one that it began in, and those that have waited
/// for an event of it.
struct Capture {
  std::uint64_t number = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  std::vector<cudaStream_t> streams;
  std::vector<CapturedWork> work;
  std::atomic<bool> invalid = false;
};

}  // namespace longscan::cuda_on_cpu

using longscan::cuda_on_cpu::Capture;
using longscan::cuda_on_cpu::CapturedWork;

// As CUDA's headers declare them.
struct CUstream_st {
  std::unique_ptr<Capture> own_capture;
  Capture* capture = nullptr;
  // How often something has been kept of this stream, and how much of it others have waited for.
  std::uint64_t kept = 0;
  std::uint64_t waited_for = 0;
  // Late work, and how much of it has ended.
  std::deque<std::function<void()>> late;
  std::uint64_t ended = 0;
  std::vector<std::chrono::steady_clock::time_point> end_times;
};

struct CUevent_st {
  bool timed = true;
  bool recorded = false;
  std::chrono::steady_clock::time_point time;
  // Where it was recorded in a capture:
  std::uint64_t capture = 0;
  cudaStream_t stream = nullptr;
  std::uint64_t kept = 0;
  // Where there was late work: its stream, and how much it was.
  cudaStream_t late_stream = nullptr;
  std::uint64_t late = 0;
};

namespace longscan::cuda_on_cpu {
namespace {

// The captures under way in all threads.
struct Captures {
  std::mutex mutex;
  std::map<std::uint64_t, Capture*> by_number;
  std::uint64_t last_number = 0;
  std::atomic<int> count = 0;
};

Captures& captures() {
  static Captures instance;
  return instance;
}

bool is_default(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

// Whether the capture forbids the calling thread what could disturb it.
bool forbids(const Capture& capture) {
  return capture.mode == cudaStreamCaptureModeGlobal ||
         (capture.mode == cudaStreamCaptureModeThreadLocal &&
          capture.thread == std::this_thread::get_id());
}

Capture* capture_that_forbids() {
  Captures& all = captures();
  if (all.count == 0) return nullptr;
  const std::lock_guard lock(all.mutex);
  for (const auto& [number, capture] : all.by_number) {
    if (forbids(*capture)) return capture;
  }
  return nullptr;
}

Capture* capture_with(std::uint64_t number) {
  Captures& all = captures();
  const std::lock_guard lock(all.mutex);
  const auto found = all.by_number.find(number);
  return found == all.by_number.end() ? nullptr : found->second;
}

cudaError_t invalidate(Capture& capture, cudaError_t status) {
  capture.invalid = true;
  return noted(status);
}

void begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Captures& all = captures();
  const std::lock_guard lock(all.mutex);
  stream->own_capture = std::make_unique<Capture>();
  Capture& capture = *stream->own_capture;
  capture.number = ++all.last_number;
  capture.mode = mode;
  capture.thread = std::this_thread::get_id();
  capture.streams = {stream};
  stream->capture = &capture;
  all.by_number.emplace(capture.number, &capture);
  ++all.count;
}

std::unique_ptr<Capture> end_capture(cudaStream_t stream) {
  Captures& all = captures();
  const std::lock_guard lock(all.mutex);
  for (const cudaStream_t joined : stream->capture->streams) joined->capture = nullptr;
  all.by_number.erase(stream->own_capture->number);
  --all.count;
  return std::move(stream->own_capture);
}

void end_late_work_until(cudaStream_t stream, std::uint64_t count) {
  while (stream->ended < count) {
    const std::function<void()> run = std::move(stream->late.front());
    stream->late.pop_front();
    ++stream->ended;
    run();
    stream->end_times.push_back(std::chrono::steady_clock::now());
  }
}

void wait_for_late_work(cudaEvent_t event) {
  if (event->late_stream != nullptr) end_late_work_until(event->late_stream, event->late);
}

// When it has come by.
std::chrono::steady_clock::time_point time_of(cudaEvent_t event) {
  if (event->late_stream == nullptr) return event->time;
  return std::max(event->time, event->late_stream->end_times.at(event->late - 1));
}

bool is_captured(cudaEvent_t event) {
  return event->capture != 0 && capture_with(event->capture) != nullptr;
}

}  // namespace

Capture* capture_of(cudaStream_t stream) {
  if (!is_default(stream)) return stream->capture;
  if (Capture* capture = capture_that_forbids()) {
    invalidate(*capture, cudaErrorStreamCaptureImplicit);
    fail("work for the default stream while another one is captured");
  }
  return nullptr;
}

void keep(Capture& capture, cudaStream_t stream, WorkKind kind, std::function<void()> run) {
  ++stream->kept;
  capture.work.push_back({kind, std::move(run)});
}

void enqueue_late(cudaStream_t stream, std::function<void()> run) {
  stream->late.push_back(std::move(run));
}

void end_late_work(cudaStream_t stream) {
  if (!is_default(stream)) end_late_work_until(stream, stream->ended + stream->late.size());
}

cudaError_t forbid_in_capture() {
  Capture* capture = capture_that_forbids();
  return capture != nullptr ? invalidate(*capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

}  // namespace longscan::cuda_on_cpu

using namespace longscan::cuda_on_cpu;

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  *stream = std::make_unique<CUstream_st>().release();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (is_default(stream)) return noted(cudaErrorInvalidResourceHandle);
  const std::unique_ptr<CUstream_st> owner(stream);
  end_late_work(stream);
  if (stream->own_capture != nullptr) end_capture(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  count_wait();
  if (is_default(stream)) return forbid_in_capture();
  if (stream->capture != nullptr) {
    return invalidate(*stream->capture, cudaErrorStreamCaptureUnsupported);
  }
  end_late_work(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return cudaStreamSynchronize(stream);
}

cudaError_t cudaStreamGetDevice(cudaStream_t, int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  wait_for_late_work(event);
  Capture* capture = event->capture != 0 ? capture_with(event->capture) : nullptr;
  if (is_default(stream)) {
    return capture != nullptr ? invalidate(*capture, cudaErrorStreamCaptureImplicit) : cudaSuccess;
  }
  if (capture == nullptr) {
    // What a capture waits for must be of it.
    return stream->capture != nullptr && event->recorded
               ? invalidate(*stream->capture, cudaErrorStreamCaptureIsolation)
               : cudaSuccess;
  }
  if (stream->capture != nullptr && stream->capture != capture) {
    return invalidate(*capture, cudaErrorStreamCaptureMerge);
  }
  if (stream->capture == nullptr) {
    stream->capture = capture;
    stream->kept = 1;  // it has joined, and must be waited for
    stream->waited_for = 0;
    capture->streams.push_back(stream);
  }
  if (event->stream != stream) {
    event->stream->waited_for = std::max(event->stream->waited_for, event->kept);
    ++stream->kept;
  }
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  enqueue(stream, WorkKind::kernel, [function, data] { function(data); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = std::make_unique<CUevent_st>().release();
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::unique_ptr<CUevent_st> owner(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  *event = {.timed = event->timed, .recorded = true, .time = std::chrono::steady_clock::now()};
  if (const Capture* capture = capture_of(stream)) {
    event->capture = capture->number;
    event->stream = stream;
    event->kept = stream->kept;
  } else if (!is_default(stream) && !stream->late.empty()) {
    event->late_stream = stream;
    event->late = stream->ended + stream->late.size();
  }
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  count_wait();
  wait_for_late_work(event);
  return is_captured(event) ? noted(cudaErrorCapturedEvent) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  count_wait();
  wait_for_late_work(event);
  return is_captured(event) ? noted(cudaErrorCapturedEvent) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const bool known = from->timed && from->recorded && to->timed && to->recorded;
  if (!known) return noted(cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {from, to}) {
    const bool ended = event->late_stream == nullptr || event->late_stream->ended >= event->late;
    if (!ended) return noted(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(time_of(to) - time_of(from)).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (is_default(stream)) return noted(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return noted(cudaErrorIllegalState);
  begin_capture(stream, mode);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (is_default(stream) || stream->capture == nullptr) return noted(cudaErrorIllegalState);
  if (stream->own_capture == nullptr) {
    return invalidate(*stream->capture, cudaErrorStreamCaptureUnmatched);
  }
  if (stream->capture->mode != cudaStreamCaptureModeRelaxed &&
      stream->capture->thread != std::this_thread::get_id()) {
    return noted(cudaErrorStreamCaptureWrongThread);
  }
  const std::unique_ptr<Capture> capture = end_capture(stream);
  if (capture->invalid) return noted(cudaErrorStreamCaptureInvalidated);
  const bool joined =
      std::all_of(capture->streams.begin() + 1, capture->streams.end(),
                  [](cudaStream_t forked) { return forked->waited_for >= forked->kept; });
  if (!joined) return noted(cudaErrorStreamCaptureUnjoined);
  *graph = std::make_unique<CUgraph_st>(CUgraph_st{std::move(capture->work)}).release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Capture* capture = is_default(stream) ? nullptr : stream->capture;
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->invalid ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

}  // extern "C"

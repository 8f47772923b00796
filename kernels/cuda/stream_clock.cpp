// Pairs of events, which are asked whether they have come by when somebody wants to know.
#include "kernels/cuda/stream_clock.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "kernels/cuda/check.h"

namespace longscan {

namespace {
bool is_captured(CUstream_st* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}
}  // namespace

void StreamClock::DestroyEvent::operator()(CUevent_st* event) const {
  cudaEventDestroy(event);
}

StreamClock::Event StreamClock::make_event() {
  cudaEvent_t event = nullptr;
  CUDA_CHECK(cudaEventCreate(&event));
  return Event(event);
}

void StreamClock::start(CUstream_st* stream) {
  is_open_ = !is_captured(stream);
  if (!is_open_) return;
  // Nobody may ever ask for the seconds.
  constexpr std::size_t kMostRunning = 1024;
  if (running_.size() >= kMostRunning) add_up();
  if (!open_.begin && !free_.empty()) {
    open_ = std::move(free_.back());
    free_.pop_back();
  }
  if (!open_.begin) open_ = {.begin = make_event(), .end = make_event()};
  CUDA_CHECK(cudaEventRecord(open_.begin.get(), stream));
}

void StreamClock::stop(CUstream_st* stream) {
  if (!std::exchange(is_open_, false)) return;
  CUDA_CHECK(cudaEventRecord(open_.end.get(), stream));
  running_.push_back(std::move(open_));
}

double StreamClock::seconds() {
  add_up();
  return seconds_;
}

void StreamClock::add_up() {
  while (!running_.empty()) {
    Span& span = running_.front();
    float milliseconds = 0;
    if (cudaEventQuery(span.end.get()) != cudaSuccess ||
        cudaEventElapsedTime(&milliseconds, span.begin.get(), span.end.get()) != cudaSuccess) {
      cudaGetLastError();  // else it would come up as the error of the next kernel
      return;
    }
    seconds_ += 1e-3 * static_cast<double>(milliseconds);
    free_.push_back(std::move(span));
    running_.pop_front();
  }
}

}  // namespace longscan

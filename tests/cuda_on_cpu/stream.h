// Streams, events and graphs. Work is done when it is given to a stream, or kept where the stream
// is being captured.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace longscan::cuda_on_cpu {

enum class WorkKind { kernel, copy, fill, product };

/// What a capture has seen of the work, in the order of calls.
struct CapturedWork {
  WorkKind kind;
  std::function<void()> run;
};

struct Capture;

/// Null where the stream is not being captured.
Capture* capture_of(cudaStream_t stream);
void keep(Capture& capture, cudaStream_t stream, WorkKind kind, std::function<void()> run);

/// Gives the stream work that is not done before somebody waits for it: an event behind it, the
/// stream itself, what is given to the stream later.
void enqueue_late(cudaStream_t stream, std::function<void()> run);
void end_late_work(cudaStream_t stream);

/// Does the work, or keeps it. It must hold all that it needs by value.
template <class Work>
void enqueue(cudaStream_t stream, WorkKind kind, Work&& work) {
  if (Capture* capture = capture_of(stream)) {
    keep(*capture, stream, kind, std::forward<Work>(work));
  } else {
    end_late_work(stream);
    work();
  }
}

/// What the call of a function returns that the capture in this thread forbids, which then is
/// invalid; success where nothing is captured.
cudaError_t forbid_in_capture();

/// Notes an error for cudaGetLastError, and returns it.
cudaError_t noted(cudaError_t status);

}  // namespace longscan::cuda_on_cpu

/// What a capture has left, under the name that CUDA's headers declare.
struct CUgraph_st {
  std::vector<longscan::cuda_on_cpu::CapturedWork> work;
};

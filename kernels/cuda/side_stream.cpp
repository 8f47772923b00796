// Events that one stream records and the other waits for.
#include "kernels/cuda/side_stream.h"

#include <cuda_runtime_api.h>

#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda.h"

namespace longscan {

// Of the highest priority: what others wait for comes before what only this GPU needs.
SideStream::SideStream(const Cuda& cuda) : cuda_(cuda) {
  int least = 0;
  int greatest = 0;
  CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest));
  stream_.reset(stream);
}

void SideStream::DestroyStream::operator()(CUstream_st* stream) const {
  cudaStreamDestroy(stream);
}
void SideStream::DestroyEvent::operator()(CUevent_st* event) const {
  cudaEventDestroy(event);
}

void SideStream::follow_operations() {
  if (free_.empty()) free_.push_back(mark());
  CUDA_CHECK(cudaEventRecord(free_.back().get(), cuda_.stream()));
  CUDA_CHECK(cudaStreamWaitEvent(stream(), free_.back().get(), 0));
}

SideStream::Mark SideStream::mark() {
  Mark mark;
  if (free_.empty()) {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    mark.reset(event);
  } else {
    mark = std::move(free_.back());
    free_.pop_back();
  }
  CUDA_CHECK(cudaEventRecord(mark.get(), stream()));
  return mark;
}

// A stream waits for what an event was when it was told to: the mark is free again at once.
void SideStream::operations_follow(Mark mark) {
  CUDA_CHECK(cudaStreamWaitEvent(cuda_.stream(), mark.get(), 0));
  free_.push_back(std::move(mark));
}

}  // namespace longscan

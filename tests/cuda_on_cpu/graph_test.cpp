// What a stream is given while it is captured is done when the graph is launched, and not before.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

__global__ void add(float* values, float term) {
  values[threadIdx.x] += term;
}
__global__ void multiply(float* values, float factor) {
  values[threadIdx.x] *= factor;
}

class Graph : public testing::Test {
 protected:
  Graph() {
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
  }
  ~Graph() override {
    cudaEventDestroy(event_);
    cudaStreamDestroy(other_);
    cudaStreamDestroy(stream_);
    cudaGetLastError();
  }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    ASSERT_EQ(cudaStreamBeginCapture(stream_, mode), cudaSuccess);
  }
  cudaError_t end() {
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
    return cudaStreamEndCapture(stream_, &graph_);
  }
  void launch_graph() {
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph_, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
    graph_ = nullptr;
    EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  }
  float first() const { return values_.values()[0]; }

  cudaStream_t stream_ = nullptr;
  cudaStream_t other_ = nullptr;
  cudaEvent_t event_ = nullptr;
  cudaGraph_t graph_ = nullptr;
  DeviceArray<float> values_{std::vector<float>(8, 1.0f)};
};

TEST_F(Graph, RunsItsWorkInOrderAtEveryLaunch) {
  DeviceArray<float> copy(8);
  begin();
  for (float term : {1.0f, 2.0f}) launch(add, 1, 8, 0, stream_, values_.get(), term);
  launch(multiply, 1, 8, 0, stream_, values_.get(), 10.0f);
  EXPECT_EQ(cudaMemcpyAsync(copy.get(), values_.get(), 32, cudaMemcpyDeviceToDevice, stream_),
            cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(values_.get() + 4, 0, 16, stream_), cudaSuccess);
  ASSERT_EQ(end(), cudaSuccess);
  EXPECT_EQ(first(), 1.0f);
  std::size_t nodes = 0;
  EXPECT_EQ(cudaGraphGetNodes(graph_, nullptr, &nodes), cudaSuccess);
  EXPECT_EQ(nodes, 5u);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph_, 0), cudaSuccess);
  for (const float expected : {40.0f, 430.0f}) {
    EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    EXPECT_EQ(first(), expected);
    EXPECT_EQ(copy.values()[0], expected);
    EXPECT_EQ(values_.values()[4], 0.0f);
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
}

TEST_F(Graph, TakesOtherArgumentsWhenItIsUpdatedButNoOtherWork) {
  begin();
  launch(add, 1, 8, 0, stream_, values_.get(), 1.0f);
  ASSERT_EQ(end(), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph_, 0), cudaSuccess);
  begin();
  launch(add, 1, 8, 0, stream_, values_.get(), 5.0f);
  ASSERT_EQ(end(), cudaSuccess);
  cudaGraphExecUpdateResultInfo info{};
  EXPECT_EQ(cudaGraphExecUpdate(executable, graph_, &info), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
  EXPECT_EQ(first(), 6.0f);
  begin();
  EXPECT_EQ(cudaMemsetAsync(values_.get(), 0, 32, stream_), cudaSuccess);
  ASSERT_EQ(end(), cudaSuccess);
  EXPECT_EQ(cudaGraphExecUpdate(executable, graph_, &info), cudaErrorGraphExecUpdateFailure);
  EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
  EXPECT_EQ(first(), 11.0f);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph_), cudaSuccess);
}

TEST_F(Graph, HoldsTheWorkOfStreamsThatWaitForItsEvents) {
  begin();
  launch(add, 1, 8, 0, stream_, values_.get(), 1.0f);
  EXPECT_EQ(cudaEventRecord(event_, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(other_, event_, 0), cudaSuccess);
  launch(multiply, 1, 8, 0, other_, values_.get(), 3.0f);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaEventRecord(event_, other_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(stream_, event_, 0), cudaSuccess);
  launch(add, 1, 8, 0, stream_, values_.get(), 1.0f);
  ASSERT_EQ(end(), cudaSuccess);
  EXPECT_EQ(first(), 1.0f);
  launch_graph();
  EXPECT_EQ(first(), 7.0f);
  launch(add, 1, 8, 0, other_, values_.get(), 1.0f);  // and is free again
  EXPECT_EQ(first(), 8.0f);
}

TEST_F(Graph, IsRefusedWhereAStreamWasNotWaitedFor) {
  begin();
  EXPECT_EQ(cudaEventRecord(event_, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(other_, event_, 0), cudaSuccess);
  launch(add, 1, 8, 0, other_, values_.get(), 1.0f);
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnjoined);
}

TEST_F(Graph, ForbidsWhatCannotBeRepeated) {
  std::vector<float> host(8);
  void* memory = nullptr;
  const std::vector<std::function<cudaError_t()>> calls = {
      [&] { return cudaStreamSynchronize(stream_); },
      [&] { return cudaDeviceSynchronize(); },
      [&] { return cudaMalloc(&memory, 32); },
      [&] { return cudaMallocHost(&memory, 32); },
      [&] { return cudaMemcpy(host.data(), values_.get(), 32, cudaMemcpyDeviceToHost); },
      [&] {
        return cudaMemcpyAsync(host.data(), values_.get(), 32, cudaMemcpyDeviceToHost, stream_);
      }};
  for (const auto& call : calls) {
    begin();
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    cudaStreamCaptureStatus status{};
    EXPECT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
    EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
    EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(call(), cudaSuccess);
    if (memory != nullptr && cudaFree(memory) != cudaSuccess) cudaFreeHost(memory);
    memory = nullptr;
  }
  begin();
  EXPECT_THROW(launch(add, 1, 8, 0, nullptr, values_.get(), 1.0f), Fault);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST_F(Graph, CopiesPinnedMemoryAsItIsAtTheLaunch) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMallocHost(&memory, 32), cudaSuccess);
  auto* pinned = static_cast<float*>(memory);
  begin();
  EXPECT_EQ(cudaMemcpyAsync(values_.get(), pinned, 32, cudaMemcpyHostToDevice, stream_),
            cudaSuccess);
  ASSERT_EQ(end(), cudaSuccess);
  std::fill(pinned, pinned + 8, 42.0f);
  launch_graph();
  EXPECT_EQ(first(), 42.0f);
  EXPECT_EQ(cudaFreeHost(memory), cudaSuccess);
}

TEST_F(Graph, OfOneThreadDoesNotDisturbAnother) {
  begin();
  std::thread([&] {
    DeviceArray<float> values(std::vector<float>(8, 1.0f));
    launch(add, 1, 8, 0, nullptr, values.get(), 1.0f);
    EXPECT_EQ(values.values()[0], 2.0f);
  }).join();
  EXPECT_EQ(end(), cudaSuccess);
  begin(cudaStreamCaptureModeGlobal);
  std::thread([&] {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, 32), cudaErrorStreamCaptureUnsupported);
  }).join();
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

TEST(Event, MeasuresTimeUnlessItIsMadeNotTo) {
  cudaEvent_t from = nullptr, to = nullptr, untimed = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&from), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&to), cudaSuccess);
  float milliseconds = 0.0f;
  EXPECT_NE(cudaEventElapsedTime(&milliseconds, from, to), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(from, nullptr), cudaSuccess);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_EQ(cudaEventRecord(to, nullptr), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(to), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, from, to), cudaSuccess);
  EXPECT_GE(milliseconds, 2.0f);
  EXPECT_EQ(cudaEventRecord(untimed, nullptr), cudaSuccess);
  EXPECT_NE(cudaEventElapsedTime(&milliseconds, from, untimed), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(untimed), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(from), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(to), cudaSuccess);
  cudaGetLastError();
}

}  // namespace
}  // namespace longscan::cuda_on_cpu

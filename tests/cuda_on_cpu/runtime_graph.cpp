// The CUDA runtime's functions about graphs: what a capture has kept, done again.
#include <algorithm>

#include "tests/cuda_on_cpu/host_calls.h"
#include "tests/cuda_on_cpu/stream.h"

using longscan::cuda_on_cpu::Capture;
using longscan::cuda_on_cpu::capture_of;
using longscan::cuda_on_cpu::CapturedWork;
using longscan::cuda_on_cpu::count_graph;
using longscan::cuda_on_cpu::keep;
using longscan::cuda_on_cpu::noted;

struct CUgraphExec_st {
  std::vector<CapturedWork> work;
};

namespace {

void run_all(const std::vector<CapturedWork>& work) {
  for (const CapturedWork& piece : work) piece.run();
}

bool same_shape(const std::vector<CapturedWork>& left, const std::vector<CapturedWork>& right) {
  return std::equal(
      left.begin(), left.end(), right.begin(), right.end(),
      [](const CapturedWork& one, const CapturedWork& other) { return one.kind == other.kind; });
}

}  // namespace

extern "C" {

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = std::make_unique<CUgraphExec_st>(CUgraphExec_st{graph->work}).release();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                          unsigned long long flags) {
  return cudaGraphInstantiate(executable, graph, flags);
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* info) {
  const bool same = same_shape(executable->work, graph->work);
  *info = {};
  info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
  if (!same) return noted(cudaErrorGraphExecUpdateFailure);
  executable->work = graph->work;
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (Capture* capture = capture_of(stream)) {
    for (const CapturedWork& piece : executable->work) {
      keep(*capture, stream, piece.kind, piece.run);
    }
    return cudaSuccess;
  }
  count_graph();
  run_all(executable->work);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes != nullptr) return noted(cudaErrorNotSupported);
  *count = graph->work.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const std::unique_ptr<CUgraph_st> owner(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const std::unique_ptr<CUgraphExec_st> owner(executable);
  return cudaSuccess;
}

}  // extern "C"

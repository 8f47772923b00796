// Gradients of causal linear attention on the GPU, in one walk from the end of the line to its
// begin.
//
// Between two checkpoints of S that forward has left, a block first goes forwards and
// differentiates the queries, then backwards and differentiates keys and values: what it reads the
// second time is still near. So no state is kept for a chunk, none is rebuilt by subtracting, and
// this pass reads memory once. The block has room for one state: R is laid aside meanwhile.
#pragma once

#include "kernels/cuda/linear_attention_key_value.h"
#include "kernels/cuda/linear_attention_query.h"

namespace longscan::gpu_attention {

template <class T, int kDim>
__global__ void __launch_bounds__(Sizes<T, kDim>::kThreads, Sizes<T, kDim>::kBackwardBlocks)
    backward(const __grid_constant__ BackwardPass<T> pass) {
  const Call<T>& call = pass.call;
  Block<T, kDim> block(call.map, Block<T, kDim>::kMostInputs);
  const Place place(call);
  take_resident_projection(block);
  load_beginning(block, call, pass.behind, place);
  const key_side::Outputs<T> outputs{pass.d_key, pass.d_value};
  float* aside = pass.aside + place.offset(call);
  const std::int64_t first = place.begin / kCheckpointTokens;
  for (std::int64_t i = (place.end - 1) / kCheckpointTokens; i >= first; --i) {
    const std::int64_t begin = i * kCheckpointTokens;
    const std::int64_t behind = begin + kCheckpointTokens;
    const Range range{begin, behind < place.end ? behind : place.end};
    store_state(block, aside, call.value_dim);
    __syncthreads();
    const std::int64_t checkpoint = (i * call.heads + place.head) * call.state_size();
    load_state(block, pass.checkpoints + checkpoint, call.value_dim);
    __syncthreads();
    query_side::walk(block, call, pass.d_query, place.head, range);
    load_state(block, aside, call.value_dim);
    __syncthreads();
    key_side::walk(block, call, outputs, place.head, range);
  }
}

template <class T>
void run(Cuda& cuda, const BackwardPass<T>& pass) {
  for_head_size(pass.call.map.dim, pass.call.value_dim, [&]<int kDim>() {
    launch_blocks<T, kDim>(cuda, backward<T, kDim>, pass, Block<T, kDim>::kMostInputs,
                           pass.call.pieces);
  });
}

}  // namespace longscan::gpu_attention

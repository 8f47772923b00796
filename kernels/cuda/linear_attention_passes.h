// The passes over a line that linear attention on the GPU is made of. Each is a launch of one
// kernel: sum every piece, scan the pieces' sums, work with what the scan left.
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/linear_attention_block.h"
#include "kernels/cuda/linear_attention_limits.h"

namespace longscan::gpu_attention {

/// The sums of one side of pieces [first, last).
template <class T>
struct SumPass {
  Call<T> call;
  std::int64_t first;
  std::int64_t last;
  float* states;  ///< [pieces, heads, features, columns]
  ShardSide side;
  bool gradients;  ///< of queries with their gradients instead of keys with their values
};

/// What is before every piece in its document (for the front: behind it), and beyond the last.
struct ScanPass {
  const float* sums;   ///< [pieces, heads, features, columns]; the last only for `beyond`
  const float* outer;  ///< [heads, features, columns]: beyond the first; may be null
  float* before;       ///< as sums; may be null
  float* beyond;       ///< [heads, features, columns]; may be null
  const std::int64_t* starts;
  std::int64_t starts_count;
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t pieces;
  std::int64_t piece_tokens;
  std::int64_t features;
  int columns;
  bool exponential;
  ShardSide side;
};

/// States that the outputs begin with. Causal: of what is beside a piece, on the side where its
/// walk begins. Otherwise of both sides, with the sums of the piece's own tokens where it is one of
/// several.
struct States {
  const float* before = nullptr;  ///< [pieces, heads, features, columns]; null: nothing
  const float* behind = nullptr;
  const float* own_front = nullptr;  ///< null: not known
  const float* own_back = nullptr;
};

template <class T>
struct ForwardPass {
  Call<T> call;
  Rows<T> out;
  Rows<float> normalizer;
  States states;
  float* checkpoints;  ///< [checkpoints, heads, features, columns]; may be null
  bool causal;
};

/// Causal: everything in one pass.
template <class T>
struct BackwardPass {
  Call<T> call;  ///< pieces of whole checkpoints
  Rows<T> d_query;
  Rows<T> d_key;
  Rows<T> d_value;
  const float* checkpoints;  ///< S, as forward leaves them
  const float* behind;       ///< R behind every piece, [pieces, heads, features, columns], or null
  float* aside;              ///< [pieces, heads, features, columns]: room for every block's R
};

/// Not causal.
template <class T>
struct QueryPass {
  Call<T> call;
  Rows<T> d_query;
  States states;
};

/// Not causal.
template <class T>
struct KeyValuePass {
  Call<T> call;
  Rows<T> d_key;
  Rows<T> d_value;
  States states;
};

template <class T>
void run(Cuda& cuda, const SumPass<T>& pass);
void run(Cuda& cuda, const ScanPass& pass);
template <class T>
void run(Cuda& cuda, const ForwardPass<T>& pass);
template <class T>
void run(Cuda& cuda, const BackwardPass<T>& pass);
template <class T>
void run(Cuda& cuda, const QueryPass<T>& pass);
template <class T>
void run(Cuda& cuda, const KeyValuePass<T>& pass);

/// Tokens of a chunk at these sizes.
std::int64_t chunk_tokens(DType dtype, std::int64_t dim, std::int64_t value_dim);

/// Calls `body.operator()<kDim>()` with the size that dim and value_dim are padded to. Throws usage
/// where there is none.
template <class Body>
void for_head_size(std::int64_t dim, std::int64_t value_dim, Body&& body) {
  const std::int64_t larger = dim > value_dim ? dim : value_dim;
  if (larger <= 32) return body.template operator()<32>();
  if (larger <= 64) return body.template operator()<64>();
  if (larger <= 128) return body.template operator()<128>();
  refuse_head_size(larger);
}

/// Launches a block for each of so many pieces of every head.
template <class T, int kDim, class Pass>
void launch_blocks(Cuda& cuda, void (*kernel)(Pass), Pass pass, int inputs, std::int64_t pieces) {
  const Call<T>& call = pass.call;
  if (call.heads * pieces == 0) return;
  const auto bytes = [&] { return Block<T, kDim>::shared_bytes(call.map, inputs); };
  pass.call.map.resident = call.map.projected();
  if (bytes() > cuda.shared_memory()) pass.call.map.resident = false;
  if (bytes() > cuda.shared_memory()) {
    refuse_state(call.map.features, kDim, bytes(), cuda.shared_memory());
  }
  launch(kernel, Grid(call.heads * pieces), dim3(Sizes<T, kDim>::kThreads), bytes(), cuda.stream(),
         pass);
}

}  // namespace longscan::gpu_attention

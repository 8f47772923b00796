// Every number of a sum is added up by one thread, from the first piece to the last.
#include "kernels/cuda/linformer_pieces.h"

#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/threads.h"

namespace longscan::linformer_on_gpu {

namespace {

template <int kCount>
__global__ void add_in_order(float* sums, const float* parts, std::int64_t count,
                             std::int64_t pieces) {
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float sum[kCount];
  load(sum, parts + at);
  for (std::int64_t piece = 1; piece < pieces; ++piece) {
    float part[kCount];
    load(part, parts + piece * count + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] += part[i];
  }
  store(sums + at, sum);
}

}  // namespace

std::int64_t count_pieces(const Cuda& cuda, std::int64_t blocks, std::int64_t tokens) {
  constexpr std::int64_t kBlocksOfMultiprocessor = 4;
  constexpr std::int64_t kFewestTokens = 256;  // else sums are written as often as tokens are read
  const std::int64_t wanted = pieces_of(kBlocksOfMultiprocessor * cuda.multiprocessors(), blocks);
  return std::clamp(tokens / kFewestTokens, std::int64_t{1}, wanted);
}

Tensor room_for_pieces(const Tensor& sums, float* scratch, std::int64_t pieces) {
  if (pieces == 1) return sums;
  return Tensor::dense(scratch, DType::f32, {pieces * sums.shape[0], sums.shape[1], sums.shape[2]});
}

void add_pieces(Cuda& cuda, const Tensor& sums, const Tensor& room, std::int64_t pieces) {
  if (pieces == 1) return;
  const std::int64_t count = sums.size();
  const bool vectors = begin_at_vectors({sums, room}) && count % kVector<float> == 0;
  for_pack<float>(vectors, [&]<int kCount>() {
    launch_threads(count / kCount, cuda.stream(), add_in_order<kCount>, sums.as<float>(),
                   room.as<const float>(), count, pieces);
  });
}

}  // namespace longscan::linformer_on_gpu

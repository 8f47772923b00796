// The fold of states on the GPU: every element by itself, its addends in the order of the runs.
#include "kernels/state.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

__device__ const float* run_of(const FoldStates& fold, std::int64_t step) {
  const std::int64_t index = fold.ascending ? fold.begin + step : fold.end - 1 - step;
  return data_of<const float>(fold.runs) + index * fold.runs.stride[0];
}

template <int kCount>
__global__ void fold_sums(const __grid_constant__ FoldStates fold) {
  const std::int64_t count = fold.out.shape[0];
  const std::int64_t at = thread_number() * kCount;
  if (at >= count) return;
  float sums[kCount] = {};
  if (fold.carry.rank > 0) load_up_to(count - at, sums, data_of<const float>(fold.carry) + at);
  for (std::int64_t step = 0; step < fold.end - fold.begin; ++step) {
    float run[kCount];
    load_up_to(count - at, run, run_of(fold, step) + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += run[i];
  }
  store_up_to(count - at, data_of<float>(fold.out) + at, sums);
}

// e^(from - to), 0 where nothing has the exponent `from`.
__device__ float ratio(float from, float to) {
  return expf(from - (to == -INFINITY ? 0.0f : to));
}

// A block a row: x e^a and y e^b join to (x e^(a - c) + y e^(b - c)) e^c, c = max(a, b), the
// exponents behind the sums. Each thread follows the exponent on its own.
__global__ void fold_rows(const __grid_constant__ FoldStates fold) {
  const std::int64_t columns = fold.exponent_columns;
  const std::int64_t row = blockIdx.x * columns;
  const std::int64_t last = row + columns - 1;
  const bool carried = fold.carry.rank > 0;
  const auto* carry = data_of<const float>(fold.carry);
  auto* out = data_of<float>(fold.out);
  const float first = carried ? carry[last] : -INFINITY;
  __syncthreads();  // out may be the carry
  for (std::int64_t at = row + threadIdx.x; at <= last; at += blockDim.x) {
    float exponent = first;
    float sum = carried && at < last ? carry[at] : 0.0f;
    for (std::int64_t step = 0; step < fold.end - fold.begin; ++step) {
      const float* run = run_of(fold, step);
      const float theirs = run[last];
      const float highest = theirs > exponent ? theirs : exponent;
      sum = sum * ratio(exponent, highest) + run[at] * ratio(theirs, highest);
      exponent = highest;
    }
    out[at] = at == last ? exponent : sum;
  }
}

}  // namespace

void execute(Cuda& cuda, const FoldStates& operation) {
  const Tensor& out = operation.out;
  if (out.dtype != DType::f32) refuse_on_gpu(out.dtype, "states on the GPU are f32");
  const std::int64_t count = out.shape[0];
  if (count == 0) return;
  if (operation.exponent_columns > 0) {
    constexpr int kRowThreads = 64;
    launch(fold_rows, Grid(count / operation.exponent_columns), dim3(kRowThreads), 0, cuda.stream(),
           operation);
    return;
  }
  const bool vectors = rows_begin_at_vectors({out, operation.runs, operation.carry});
  for_pack<float>(vectors, [&]<int kCount>() {
    launch_threads(pieces_of(count, kCount), cuda.stream(), fold_sums<kCount>, operation);
  });
}

}  // namespace longscan

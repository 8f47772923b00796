// Cross-entropy on the GPU: maximum and sum of a row in one sweep, its gradient in another.
#include "kernels/loss.h"

#include <cfloat>
#include <climits>
#include <limits>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/faults.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/threads.h"

namespace longscan {

namespace {

constexpr int kTotals = 3;  // loss, right answers, rows
// Rows whose totals a block adds up. A constant, so that the sum does not depend on the GPU.
constexpr std::int64_t kPiece = 1 << 12;
// Of these, two blocks fill a multiprocessor: so few long rows are on their way at a time that they
// are still in the GPU's cache for their gradient.
constexpr int kLongRowThreads = 768;

// What a part of a row comes to: its largest logit, where that stands first, and the sum of
// e^(logit - maximum). A part of nothing has a finite maximum, so that -infinity may be a logit.
struct RowPart {
  float maximum = -FLT_MAX;
  float sum = 0;
  std::int32_t first = INT_MAX;
};

__device__ RowPart joined(const RowPart& a, const RowPart& b) {
  const bool of_b = b.maximum > a.maximum || (b.maximum == a.maximum && b.first < a.first);
  const float maximum = of_b ? b.maximum : a.maximum;
  return {.maximum = maximum,
          .sum = a.sum * __expf(a.maximum - maximum) + b.sum * __expf(b.maximum - maximum),
          .first = of_b ? b.first : a.first};
}

// Of a warp, for its first lane.
__device__ RowPart joined_by_warp(RowPart part) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const RowPart other = {.maximum = __shfl_down_sync(kAllLanes, part.maximum, distance),
                           .sum = __shfl_down_sync(kAllLanes, part.sum, distance),
                           .first = __shfl_down_sync(kAllLanes, part.first, distance)};
    part = joined(part, other);
  }
  return part;
}

// Of a row's threads, for all of them: one warp, or a block of several.
template <int kThreads>
__device__ RowPart joined_by_row(RowPart part) {
  part = joined_by_warp(part);
  if constexpr (kThreads == kWarp) {
    return {.maximum = __shfl_sync(kAllLanes, part.maximum, 0),
            .sum = __shfl_sync(kAllLanes, part.sum, 0),
            .first = __shfl_sync(kAllLanes, part.first, 0)};
  } else {
    constexpr int kWarps = kThreads / kWarp;
    SHARED(float, maxima, [kWarps]);
    SHARED(float, sums, [kWarps]);
    SHARED(std::int32_t, firsts, [kWarps]);
    if (threadIdx.x % kWarp == 0) {
      const unsigned warp = threadIdx.x / kWarp;
      maxima[warp] = part.maximum;
      sums[warp] = part.sum;
      firsts[warp] = part.first;
    }
    __syncthreads();
    if (threadIdx.x < kWarp) {
      part = {};
      if (threadIdx.x < kWarps) {
        part = {
            .maximum = maxima[threadIdx.x], .sum = sums[threadIdx.x], .first = firsts[threadIdx.x]};
      }
      part = joined_by_warp(part);
    }
    if (threadIdx.x == 0) {  // which alone has read this place
      maxima[0] = part.maximum;
      sums[0] = part.sum;
      firsts[0] = part.first;
    }
    __syncthreads();
    return {.maximum = maxima[0], .sum = sums[0], .first = firsts[0]};
  }
}

template <int kThreads, int kCount, class T>
__device__ RowPart sum_exponentials(const T* logits, std::int64_t vocabulary) {
  RowPart part;
  for (std::int64_t column = threadIdx.x * kCount; column < vocabulary;
       column += kThreads * kCount) {
    float x[kCount];
    load(x, logits + column);
    float highest = x[0];
#pragma unroll
    for (int i = 1; i < kCount; ++i) highest = fmaxf(highest, x[i]);
    if (highest > part.maximum) {
      part.sum *= __expf(part.maximum - highest);
      part.maximum = highest;
#pragma unroll
      for (int i = kCount - 1; i >= 0; --i) {
        if (x[i] == highest) part.first = static_cast<std::int32_t>(column) + i;
      }
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) part.sum += __expf(x[i] - part.maximum);
  }
  return part;
}

// logits = softmax(logits) - onehot(target).
template <int kThreads, int kCount, class T>
__device__ void write_gradient(T* logits, std::int64_t vocabulary, std::int64_t target,
                               const RowPart& row) {
  const float scale = 1.0f / row.sum;
  for (std::int64_t column = threadIdx.x * kCount; column < vocabulary;
       column += kThreads * kCount) {
    float x[kCount];
    load(x, logits + column);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      x[i] = __expf(x[i] - row.maximum) * scale - (column + i == target ? 1.0f : 0.0f);
    }
    store(logits + column, x);
  }
}

template <int kThreads, int kCount, class T>
__device__ void write_zeros(T* logits, std::int64_t vocabulary) {
  const float zeros[kCount] = {};
  for (std::int64_t column = threadIdx.x * kCount; column < vocabulary;
       column += kThreads * kCount) {
    store(logits + column, zeros);
  }
}

// kThreads threads in x a row, and as many rows in y as a block has room for.
template <class T, int kThreads, int kCount>
__global__ void __launch_bounds__(kThreads == kWarp ? kBlockThreads : kThreads,
                                  kThreads == kLongRowThreads ? 2 : 1)
    row_losses(double* totals, Faults* faults, const __grid_constant__ CrossEntropy operation) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= operation.logits.shape[0]) return;
  const std::int64_t vocabulary = operation.logits.shape[1];
  const std::int64_t target = data_of<const std::int32_t>(operation.targets)[row];
  T* logits = data_of<T>(operation.logits) + row * vocabulary;
  double* total = totals + row * kTotals;
  if (target < 0 || target >= vocabulary) {
    if (operation.gradient) write_zeros<kThreads, kCount>(logits, vocabulary);
    if (threadIdx.x != 0) return;
    if (target >= 0) report(&faults->target_beyond_vocabulary, target);
    total[0] = total[1] = total[2] = 0;
    return;
  }
  const float logit = to_float(logits[target]);
  const RowPart part =
      joined_by_row<kThreads>(sum_exponentials<kThreads, kCount>(logits, vocabulary));
  if (threadIdx.x == 0) {
    total[0] = log(static_cast<double>(part.sum)) +
               (static_cast<double>(part.maximum) - static_cast<double>(logit));
    total[1] = part.first == target ? 1 : 0;
    total[2] = 1;
  }
  if (!operation.gradient) return;
  if constexpr (kThreads == kWarp) __syncwarp();  // a shuffle does not order memory
  write_gradient<kThreads, kCount>(logits, vocabulary, target, part);
}

template <class T, int kThreads, int kCount>
void launch_rows(Cuda& cuda, double* totals, const CrossEntropy& operation) {
  constexpr int kRows = kThreads == kWarp ? kBlockThreads / kWarp : 1;
  launch(row_losses<T, kThreads, kCount>, Grid(pieces_of(operation.logits.shape[0], kRows)),
         dim3(kThreads, kRows), 0, cuda.stream(), totals, cuda.faults(), operation);
}

__global__ void mark_bad_data(double* totals, std::int64_t count, const Faults* faults) {
  const std::int64_t at = thread_number();
  if (at < count && !(*faults == Faults{})) totals[at] = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

void execute(Cuda& cuda, const CrossEntropy& operation) {
  const std::int64_t tokens = operation.logits.shape[0];
  const std::int64_t vocabulary = operation.logits.shape[1];
  if (tokens == 0) return;
  const std::int64_t pieces = pieces_of(tokens, kPiece);
  auto* of_rows = cuda.scratch<double>((tokens + pieces) * kTotals);
  double* of_pieces = of_rows + tokens * kTotals;
  for_gpu_type(operation.logits.dtype, [&]<class T>() {
    for_pack<T>(rows_in_vectors({operation.logits}), [&]<int kCount>() {
      // Some accesses for every thread.
      if (vocabulary <= 1024) return launch_rows<T, kWarp, kCount>(cuda, of_rows, operation);
      if (vocabulary <= 16384) return launch_rows<T, 256, kCount>(cuda, of_rows, operation);
      launch_rows<T, kLongRowThreads, kCount>(cuda, of_rows, operation);
    });
  });
  launch(sum_rows<kTotals>, Grid(pieces), dim3(kBlockThreads), 0, cuda.stream(), of_pieces, of_rows,
         tokens, kPiece, Result::replace);
  launch(sum_rows<kTotals>, Grid(std::int64_t{1}), dim3(kBlockThreads), 0, cuda.stream(),
         operation.totals.as<double>(), of_pieces, pieces, pieces, Result::add);
}

void execute(Cuda& cuda, const MarkBadData& operation) {
  launch_threads(operation.totals.size(), cuda.stream(), mark_bad_data,
                 operation.totals.as<double>(), operation.totals.size(), cuda.faults());
}

}  // namespace longscan

// The fold of states on the CPU: every element by itself, its addends in the order of the runs.
#include "kernels/state.h"

#include <algorithm>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"

namespace longscan {

namespace {

// A block of out stays in the first-level cache while the runs stream past it.
constexpr std::int64_t kBlock = 2048;

template <class T>
void fold_block(const FoldStates& fold, std::int64_t begin, std::int64_t end) {
  T* out = fold.out.as<T>();
  if (!fold.carry.present()) {
    std::fill(out + begin, out + end, T{0});
  } else if (fold.carry.data != fold.out.data) {
    std::copy(fold.carry.as<T>() + begin, fold.carry.as<T>() + end, out + begin);
  }
  for (std::int64_t step = 0; step < fold.end - fold.begin; ++step) {
    const std::int64_t index = fold.ascending ? fold.begin + step : fold.end - 1 - step;
    const T* run = fold.runs.as<T>() + index * fold.runs.stride[0];
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) out[i] += run[i];
  }
}

}  // namespace

void execute(Cpu& cpu, const FoldStates& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    cpu.for_blocks(operation.out.shape[0], kBlock, [&](std::int64_t begin, std::int64_t end, int) {
      fold_block<T>(operation, begin, end);
    });
  });
}

}  // namespace longscan

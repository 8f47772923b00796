// The fold of states on the CPU: every element by itself, its addends in the order of the runs.
#include "kernels/state.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/exponents.h"

namespace longscan {

namespace {

// A block of out stays in the first-level cache while the runs stream past it.
constexpr std::int64_t kBlock = 2048;

// Calls `add` with every run, in order.
template <class T, class Add>
void for_runs(const FoldStates& fold, const Add& add) {
  for (std::int64_t step = 0; step < fold.end - fold.begin; ++step) {
    const std::int64_t index = fold.ascending ? fold.begin + step : fold.end - 1 - step;
    add(fold.runs.as<T>() + index * fold.runs.stride[0]);
  }
}

template <class T>
void copy_carry(const FoldStates& fold, std::int64_t begin, std::int64_t end) {
  if (fold.carry.data == fold.out.data) return;
  std::copy(fold.carry.as<T>() + begin, fold.carry.as<T>() + end, fold.out.as<T>() + begin);
}

template <class T>
void fold_block(const FoldStates& fold, std::int64_t begin, std::int64_t end) {
  T* out = fold.out.as<T>();
  fold.carry.present() ? copy_carry<T>(fold, begin, end) : std::fill(out + begin, out + end, T{0});
  for_runs<T>(fold, [&](const T* run) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) out[i] += run[i];
  });
}

// row = row e^(a - c) + other e^(b - c), the exponents behind the sums.
template <class T>
void join_row(T* row, const T* other, std::int64_t sums) {
  const T mine = row[sums];
  const T theirs = other[sums];
  const T highest = std::max(mine, theirs);
  const T keep = exponents::ratio(mine, highest);
  const T take = exponents::ratio(theirs, highest);
  for (std::int64_t i = 0; i < sums; ++i) row[i] = row[i] * keep + other[i] * take;
  row[sums] = highest;
}

template <class T>
void fold_rows(const FoldStates& fold, std::int64_t begin, std::int64_t end) {
  const std::int64_t columns = fold.exponent_columns;
  T* out = fold.out.as<T>();
  if (fold.carry.present()) {
    copy_carry<T>(fold, begin * columns, end * columns);
  } else {
    std::fill(out + begin * columns, out + end * columns, T{0});
    for (std::int64_t row = begin; row < end; ++row) {
      out[(row + 1) * columns - 1] = -std::numeric_limits<T>::infinity();
    }
  }
  for_runs<T>(fold, [&](const T* run) {
    for (std::int64_t row = begin; row < end; ++row) {
      join_row(out + row * columns, run + row * columns, columns - 1);
    }
  });
}

}  // namespace

void execute(Cpu& cpu, const FoldStates& operation) {
  const std::int64_t count = operation.out.shape[0];
  for_float_type(operation.out.dtype, [&]<class T>() {
    if (operation.exponent_columns == 0) {
      cpu.for_blocks(count, kBlock, [&](std::int64_t begin, std::int64_t end, int) {
        fold_block<T>(operation, begin, end);
      });
      return;
    }
    const std::int64_t columns = operation.exponent_columns;
    cpu.for_blocks(
        count / columns, std::max<std::int64_t>(1, kBlock / columns),
        [&](std::int64_t begin, std::int64_t end, int) { fold_rows<T>(operation, begin, end); });
  });
}

}  // namespace longscan

// Cross-entropy on the CPU: maximum, exponentials and gradient of a row in three vectorised sweeps.
#include "kernels/loss.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/error.h"

namespace longscan {

namespace {

struct RowLoss {
  double loss = 0;
  bool counted = false;
  bool correct = false;
};

template <class T>
T maximum_of(const T* logits, std::int64_t count) {
  T maximum = logits[0];
#pragma omp simd reduction(max : maximum)
  for (std::int64_t i = 0; i < count; ++i) maximum = vector_math::larger(logits[i], maximum);
  return maximum;
}

// The sum of e^(logit - maximum), which also replace the logits when `kKeep`. Each piece is summed
// up in T and the pieces in double, so that long rows lose no digits.
template <bool kKeep, class T>
double sum_exponentials(T* logits, T maximum, std::int64_t count) {
  constexpr std::int64_t kPiece = 1024;
  double sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += kPiece) {
    const std::int64_t end = std::min(count, begin + kPiece);
    T piece = 0;
#pragma omp simd reduction(+ : piece)
    for (std::int64_t i = begin; i < end; ++i) {
      const T exponential = vector_math::exp(logits[i] - maximum);
      if constexpr (kKeep) logits[i] = exponential;
      piece += exponential;
    }
    sum += static_cast<double>(piece);
  }
  return sum;
}

// Whether one of the first `count` logits equals `value`.
template <class T>
bool contains(const T* logits, std::int64_t count, T value) {
  std::int32_t found = 0;
#pragma omp simd reduction(| : found)
  for (std::int64_t i = 0; i < count; ++i) found |= logits[i] == value ? 1 : 0;
  return found != 0;
}

template <class T>
RowLoss row_loss(T* logits, std::int64_t target, std::int64_t vocabulary, bool gradient) {
  if (target < 0) {
    if (gradient) std::fill(logits, logits + vocabulary, T{0});
    return {};
  }
  const T maximum = maximum_of(logits, vocabulary);
  const T logit = logits[target];
  RowLoss row = {.counted = true};
  row.correct = logit == maximum && !contains(logits, target, maximum);
  const double sum = gradient ? sum_exponentials<true>(logits, maximum, vocabulary)
                              : sum_exponentials<false>(logits, maximum, vocabulary);
  row.loss = std::log(sum) + (static_cast<double>(maximum) - static_cast<double>(logit));
  if (!gradient) return row;
  const T scale = static_cast<T>(1.0 / sum);
#pragma omp simd
  for (std::int64_t i = 0; i < vocabulary; ++i) logits[i] *= scale;
  logits[target] -= T{1};
  return row;
}

void require_targets(const Tensor& targets, std::int64_t vocabulary) {
  for (std::int64_t token = 0; token < targets.shape[0]; ++token) {
    const std::int64_t target = targets.as<std::int32_t>()[token];
    if (target < vocabulary) continue;
    throw Error(
        ErrorKind::data,
        {.what = fmt::format("target {} of token {} is beyond the vocabulary", target, token),
         .why = fmt::format("the logits have {} columns", vocabulary),
         .hint = "pack the data with the vocabulary the model was made for"});
  }
}

}  // namespace

void execute(Cpu& cpu, const CrossEntropy& operation) {
  const std::int64_t tokens = operation.logits.shape[0];
  const std::int64_t vocabulary = operation.logits.shape[1];
  require_targets(operation.targets, vocabulary);
  auto* rows = cpu.shared_scratch<RowLoss>(tokens);
  for_float_type(operation.logits.dtype, [&]<class T>() {
    const auto run_rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t token = begin; token < end; ++token) {
        rows[token] =
            row_loss(operation.logits.as<T>() + token * vocabulary,
                     operation.targets.as<std::int32_t>()[token], vocabulary, operation.gradient);
      }
    };
    cpu.for_blocks(tokens, block_rows(vocabulary), run_rows);
  });
  double* totals = operation.totals.as<double>();
  for (std::int64_t token = 0; token < tokens; ++token) {
    totals[0] += rows[token].loss;
    totals[1] += rows[token].correct ? 1 : 0;
    totals[2] += rows[token].counted ? 1 : 0;
  }
}

void execute(Cpu&, const MarkBadData&) {}

}  // namespace longscan

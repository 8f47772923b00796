// What the optimizer does to flat buffers, on the CPU: one pass over memory each.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/adamw_constants.h"
#include "kernels/bfloat16.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"

namespace longscan {

namespace {

// Sums side by side: eight AVX-512 registers of them hide the latency of additions.
constexpr std::int64_t kLanes = 64;

template <class T>
double sum_of_squares(const T* in, std::int64_t count) {
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma omp simd
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(in[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (std::int64_t lane = 0; i < count; ++i, ++lane) {
    const auto value = static_cast<double>(in[i]);
    lanes[lane] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

template <class T>
void adamw(T* parameter, T* first, T* second, const T* gradient, std::int64_t count,
           T gradient_scale, const AdamWConstants<T>& constants) {
  const AdamWConstants<T> c = constants;  // A copy that no store through the pointers can change.
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const T g = gradient[i] * gradient_scale;
    const T m = c.beta1 * first[i] + c.rest1 * g;
    const T v = c.beta2 * second[i] + c.rest2 * g * g;
    const T direction = m * c.correction1 / (std::sqrt(v * c.correction2) + c.epsilon);
    first[i] = m;
    second[i] = v;
    parameter[i] -= c.learning_rate * (direction + c.weight_decay * parameter[i]);
  }
}

}  // namespace

void execute(Cpu& cpu, const SumOfSquares& operation) {
  const std::int64_t count = operation.in.shape[0];
  const std::int64_t blocks = (count + kBlockNumbers - 1) / kBlockNumbers;
  double* partials = cpu.shared_scratch<double>(blocks);
  for_float_type(operation.in.dtype, [&]<class T>() {
    cpu.for_blocks(count, kBlockNumbers, [&](std::int64_t begin, std::int64_t end, int) {
      partials[begin / kBlockNumbers] = sum_of_squares(operation.in.as<T>() + begin, end - begin);
    });
  });
  double sum = 0;
  for (std::int64_t block = 0; block < blocks; ++block) sum += partials[block];
  *operation.out.as<double>() += sum;
}

void execute(Cpu&, const GradientScale& operation) {
  double scale = 1 / *operation.targets.as<double>();
  const double norm = std::sqrt(*operation.squares.as<double>()) * scale;
  if (operation.clip_norm > 0 && norm > operation.clip_norm) scale *= operation.clip_norm / norm;
  *operation.norm.as<double>() = norm;
  *operation.scale.as<double>() =
      std::isfinite(norm) ? scale : std::numeric_limits<double>::quiet_NaN();
}

void execute(Cpu& cpu, const AdamW& operation) {
  const double scale = *operation.gradient_scale.as<double>();
  if (!std::isfinite(scale)) return;
  for_float_type(operation.parameter.dtype, [&]<class T>() {
    const AdamWConstants<T> constants(operation);
    const auto update = [&](std::int64_t begin, std::int64_t end, int) {
      adamw(operation.parameter.as<T>() + begin, operation.first_moment.as<T>() + begin,
            operation.second_moment.as<T>() + begin, operation.gradient.as<T>() + begin,
            end - begin, static_cast<T>(scale), constants);
      if constexpr (std::is_same_v<T, float>) {
        if (!operation.rounded.present()) return;
        for (std::int64_t i = begin; i < end; ++i) {
          operation.rounded.as<Bfloat16>()[i] = Bfloat16(operation.parameter.as<float>()[i]);
        }
      }
    };
    cpu.for_blocks(operation.parameter.shape[0], kBlockNumbers, update);
  });
}

}  // namespace longscan

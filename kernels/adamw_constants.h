// What every element of an AdamW step has in common, for all backends.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/optimizer.h"

namespace longscan {

/// In the type of the parameters: made of doubles, for in f32 1 - beta has lost digits.
template <class T>
struct AdamWConstants {
  T beta1, rest1;  // rest = 1 - beta
  T beta2, rest2;
  T correction1, correction2;  // 1 / (1 - beta^step)
  T learning_rate, weight_decay, epsilon;

  explicit AdamWConstants(const AdamW& operation)
      : beta1(static_cast<T>(operation.beta1)),
        rest1(static_cast<T>(1 - operation.beta1)),
        beta2(static_cast<T>(operation.beta2)),
        rest2(static_cast<T>(1 - operation.beta2)),
        correction1(correction(operation.beta1, operation.step)),
        correction2(correction(operation.beta2, operation.step)),
        learning_rate(static_cast<T>(operation.learning_rate)),
        weight_decay(static_cast<T>(operation.weight_decay)),
        epsilon(static_cast<T>(operation.epsilon)) {}

  static T correction(double beta, std::int64_t step) {
    return static_cast<T>(1 / (1 - std::pow(beta, static_cast<double>(step))));
  }
};

}  // namespace longscan

// Gradients by central differences in double, the truth for every backward operation.
#pragma once

#include <functional>
#include <vector>

#include "tests/support/reference.h"

namespace longscan::test {

/// (f(x + step) - f(x - step)) / (2 step) for every element of x, which f reads. x is f64.
inline std::vector<double> central_differences(OwnedTensor& x, const std::function<double()>& f,
                                               double step = 1e-5) {
  std::vector<double> result;
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double value = x.get(i);
    x.set(i, value + step);
    const double above = f();
    x.set(i, value - step);
    const double below = f();
    x.set(i, value);
    result.push_back((above - below) / (2 * step));
  }
  return result;
}

/// The sum of weight[i] * values[i]: makes a scalar of an output, with `weight` as its gradient.
inline double weighted_sum(const OwnedTensor& values, const OwnedTensor& weight) {
  double sum = 0;
  for (std::int64_t i = 0; i < values.size(); ++i) sum += values.get(i) * weight.get(i);
  return sum;
}

/// Differences of this step agree with a right gradient of numbers of size one to about 1e-9.
inline constexpr double kDifferenceTolerance = 1e-7;

}  // namespace longscan::test

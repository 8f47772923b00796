// What the benchmarks share: medians of interleaved runs, exponents of growth, the machine's peak,
// options of the command line.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/linear.h"

namespace longscan::benchmark {

inline double seconds_of(const auto& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// What a benchmark found at a length.
struct Point {
  double length = 0;
  double value = 0;
};

/// The exponent p of value = c length^p: the slope by least squares of the logarithms. NaN for
/// fewer than two lengths.
inline double fitted_exponent(const std::vector<Point>& points) {
  const auto count = static_cast<double>(points.size());
  double x_sum = 0, y_sum = 0, xx_sum = 0, xy_sum = 0;
  for (const Point& point : points) {
    const double x = std::log(point.length), y = std::log(point.value);
    x_sum += x, y_sum += y, xx_sum += x * x, xy_sum += x * y;
  }
  return (count * xy_sum - x_sum * y_sum) / (count * xx_sum - x_sum * x_sum);
}

/// "--name=value" or the default.
inline std::string text_option(int argc, char** argv, const std::string& name,
                               const std::string& otherwise) {
  const std::string prefix = "--" + name + "=";
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind(prefix, 0) == 0) return argument.substr(prefix.size());
  }
  return otherwise;
}
inline std::int64_t number_option(int argc, char** argv, const std::string& name,
                                  std::int64_t otherwise) {
  return std::atoll(text_option(argc, argv, name, std::to_string(otherwise)).c_str());
}

/// A square product of fp32 matrices: the machine's peak in practice, to be measured in the same
/// run as what is compared with it.
class Peak {
 public:
  explicit Peak(Device& device) : device_(device), memory_(device.allocate(3 * kSize * kSize * 4)) {
    const auto matrix = [&](std::int64_t index) {
      return Tensor::dense(memory_.data() + index * kSize * kSize * 4, DType::f32, {kSize, kSize});
    };
    product_ = {.out = matrix(0), .a = matrix(1), .b = matrix(2)};
    for (std::int64_t i = 0; i < kSize * kSize; ++i) {
      product_.a.as<float>()[i] = std::sin(static_cast<float>(i));
      product_.b.as<float>()[i] = std::cos(static_cast<float>(i));
    }
  }

  /// FLOP/s of one product.
  double measure() {
    return 2.0 * kSize * kSize * kSize / seconds_of([&] { device_.run(product_); });
  }

 private:
  static constexpr std::int64_t kSize = 2048;
  Device& device_;
  Buffer memory_;
  MatMul product_;
};

/// Bytes a second that one thread copies from memory to memory: the peak of what ranks of one
/// machine can exchange.
inline double copy_peak() {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const std::vector<char> from(kBytes, 1);
  std::vector<char> to(kBytes);
  std::vector<double> rates;
  for (int i = 0; i < 5; ++i) {
    rates.push_back(kBytes / seconds_of([&] { std::memcpy(to.data(), from.data(), kBytes); }));
  }
  return median(rates);
}

}  // namespace longscan::benchmark

// Owned tensors for tests and comparisons of operations with their definitions in double.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/random.h"

namespace longscan::test {

/// Row counts and widths that no block, vector or cache line divides.
inline constexpr std::int64_t kOddSizes[] = {1, 33, 43, 597};

/// A dense tensor with its memory, written and read as doubles whatever its type is.
class OwnedTensor {
 public:
  OwnedTensor(DType dtype, std::initializer_list<std::int64_t> shape)
      : buffer_(Tensor::dense(nullptr, dtype, shape).bytes()),
        view_(Tensor::dense(buffer_.data(), dtype, shape)) {}

  OwnedTensor(DType dtype, std::initializer_list<std::int64_t> shape,
              const std::vector<double>& values)
      : OwnedTensor(dtype, shape) {
    for (std::int64_t i = 0; i < size(); ++i) set(i, values.at(static_cast<std::size_t>(i)));
  }

  /// Standard normal numbers times `scale`; other seeds give other numbers.
  static OwnedTensor random(DType dtype, std::initializer_list<std::int64_t> shape,
                            std::uint64_t seed, double scale = 1) {
    OwnedTensor tensor(dtype, shape);
    const RandomKey key = {.seed = seed};
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      tensor.set(i, scale * random_normal(key, static_cast<std::uint64_t>(i)));
    }
    return tensor;
  }

  operator const Tensor&() const { return view_; }  // NOLINT: a tensor is what it stands for
  const Tensor& view() const { return view_; }
  std::int64_t size() const { return view_.size(); }

  double get(std::int64_t i) const {
    switch (view_.dtype) {
      case DType::f32:
        return static_cast<double>(view_.as<float>()[i]);
      case DType::f64:
        return view_.as<double>()[i];
      case DType::bf16:
        return static_cast<double>(static_cast<float>(view_.as<Bfloat16>()[i]));
      case DType::i32:
        return view_.as<std::int32_t>()[i];
      case DType::i64:
        return static_cast<double>(view_.as<std::int64_t>()[i]);
      case DType::u8:
        return view_.as<std::uint8_t>()[i];
    }
    return std::nan("");
  }
  void set(std::int64_t i, double value) {
    switch (view_.dtype) {
      case DType::f32:
        view_.as<float>()[i] = static_cast<float>(value);
        break;
      case DType::f64:
        view_.as<double>()[i] = value;
        break;
      case DType::bf16:
        view_.as<Bfloat16>()[i] = Bfloat16(static_cast<float>(value));
        break;
      case DType::i32:
        view_.as<std::int32_t>()[i] = static_cast<std::int32_t>(value);
        break;
      case DType::i64:
        view_.as<std::int64_t>()[i] = static_cast<std::int64_t>(value);
        break;
      case DType::u8:
        view_.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(value);
        break;
    }
  }

  std::vector<double> values() const {
    std::vector<double> result;
    for (std::int64_t i = 0; i < size(); ++i) result.push_back(get(i));
    return result;
  }

 private:
  Buffer buffer_;
  Tensor view_;
};

/// A few roundings of the type, relative to numbers of size one.
inline double tolerance(DType dtype) {
  if (dtype == DType::bf16) return 8e-3;
  return dtype == DType::f32 ? 5e-6 : 1e-13;
}

/// Every element within `tolerance` of the reference, relative to the larger of 1 and its size.
inline void expect_close(const OwnedTensor& actual, const std::vector<double>& reference,
                         double tolerance, const std::string& what = "") {
  ASSERT_EQ(actual.size(), static_cast<std::int64_t>(reference.size())) << what;
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    const double expected = reference[static_cast<std::size_t>(i)];
    ASSERT_NEAR(actual.get(i), expected, tolerance * std::max(1.0, std::abs(expected)))
        << what << ", element " << i << " of " << describe(actual.view());
  }
}

/// `run(device)` returns the numbers of its result; they must be the same bits on 1, 2, 3 threads.
inline void expect_same_on_any_threads(
    const std::function<std::vector<double>(Device& device)>& run) {
  Device one = Device::cpu(1);
  const std::vector<double> expected = run(one);
  for (const int threads : {2, 3}) {
    Device device = Device::cpu(threads);
    const std::vector<double> actual = run(device);
    ASSERT_EQ(actual.size(), expected.size());
    EXPECT_EQ(std::memcmp(actual.data(), expected.data(), expected.size() * sizeof(double)), 0)
        << threads << " threads";
  }
}

/// `run()` throws an Error of this kind whose message contains `text`.
inline void expect_error(ErrorKind kind, const std::string& text,
                         const std::function<void()>& run) {
  try {
    run();
    ADD_FAILURE() << "nothing was thrown; expected: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

}  // namespace longscan::test

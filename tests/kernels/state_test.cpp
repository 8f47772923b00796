// The fold of states: what it adds, and in which order.
#include "kernels/state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/device.h"
#include "kernels/error.h"

namespace longscan::test {
namespace {

template <class T>
class FoldStatesTest : public testing::Test {};
using FloatTypes = testing::Types<float, double>;
TYPED_TEST_SUITE(FoldStatesTest, FloatTypes);

// Numbers whose sum depends on the order of addition.
template <class T>
T number(std::int64_t run, std::int64_t i) {
  return (run % 2 == 0 ? T{1} : T{-1}) / static_cast<T>(1 + 13 * run + 3 * i);
}

template <class T>
Tensor tensor_of(std::vector<T>& numbers, std::initializer_list<std::int64_t> shape) {
  return Tensor::dense(numbers.data(), DTypeOf<T>::value, shape);
}

TYPED_TEST(FoldStatesTest, adds_runs_to_the_carry_in_order_to_the_bit) {
  using T = TypeParam;
  constexpr std::int64_t kRuns = 5;
  Device device = Device::cpu(2);
  for (const std::int64_t count : {0, 1, 33, 597, 10'001}) {
    std::vector<T> runs;
    for (std::int64_t i = 0; i < kRuns * count; ++i)
      runs.push_back(number<T>(i / count, i % count));
    for (const bool ascending : {true, false}) {
      for (const bool carried : {true, false}) {
        for (const auto& [begin, end] : {std::pair{0, 5}, {1, 4}, {2, 2}, {4, 5}}) {
          std::vector<T> carry;
          std::vector<T> expected;
          for (std::int64_t i = 0; i < count; ++i) {
            carry.push_back(number<T>(7, i));
            T sum = carried ? carry.back() : T{0};
            for (int step = 0; step < end - begin; ++step) {
              sum += number<T>(ascending ? begin + step : end - 1 - step, i);
            }
            expected.push_back(sum);
          }
          FoldStates fold{.runs = tensor_of(runs, {kRuns, count}),
                          .carry = carried ? tensor_of(carry, {count}) : Tensor{},
                          .begin = begin,
                          .end = end,
                          .ascending = ascending};
          std::vector<T> out(static_cast<std::size_t>(count), T{99});
          fold.out = tensor_of(out, {count});
          device.run(fold);
          EXPECT_EQ(out, expected);
          if (!carried) continue;
          fold.out = fold.carry;
          device.run(fold);
          EXPECT_EQ(carry, expected) << "in place";
        }
      }
    }
  }
}

TEST(FoldStates, joins_rows_of_any_exponent) {
  // Rows of two sums and an exponent; the first of run 1 and both of run 3 are of no tokens.
  const double none = -std::numeric_limits<double>::infinity();
  const std::vector<double> runs = {1, 2, -700, 3, 4, 5, 0, 0, none, 7, 1, 900,
                                    5, 1, -702, 2, 2, 4, 0, 0, none, 0, 0, none};
  std::vector<double> numbers = runs;
  Device device = Device::cpu(1);
  for (const bool ascending : {true, false}) {
    std::vector<double> out(6, 99.0);
    device.run(FoldStates{.out = tensor_of(out, {6}),
                          .runs = tensor_of(numbers, {4, 6}),
                          .begin = 0,
                          .end = 4,
                          .ascending = ascending,
                          .exponent_columns = 3});
    EXPECT_THAT(out,
                testing::ElementsAre(testing::DoubleEq(1 + 5 * std::exp(-2.0)),
                                     testing::DoubleEq(2 + 1 * std::exp(-2.0)), -700, 7, 1, 900));
  }
  std::vector<double> carry = {0.5, 0.5, -700, 0, 0, none};
  device.run(FoldStates{.out = tensor_of(carry, {6}),
                        .runs = tensor_of(numbers, {4, 6}),
                        .carry = tensor_of(carry, {6}),
                        .begin = 3,
                        .end = 4,
                        .exponent_columns = 3});
  EXPECT_THAT(carry, testing::ElementsAre(0.5, 0.5, -700, 0, 0, none)) << "joined with nothing";
  std::vector<double> empty(6, 99.0);
  device.run(FoldStates{.out = tensor_of(empty, {6}), .exponent_columns = 3});
  EXPECT_THAT(empty, testing::ElementsAre(0, 0, none, 0, 0, none));
}

TEST(FoldStates, refuses_what_breaks_its_contract) {
  Device device = Device::cpu(1);
  std::vector<float> numbers(12);
  const Tensor runs = tensor_of(numbers, {3, 4});
  std::vector<float> other(4);
  const Tensor out = tensor_of(other, {4});
  const auto says = [](const char* text) {
    return testing::ThrowsMessage<Error>(testing::HasSubstr(text));
  };
  EXPECT_THAT([&] { device.run(FoldStates{.out = out, .runs = runs, .begin = 0, .end = 4}); },
              says("FoldStates.end"));
  EXPECT_THAT([&] { device.run(FoldStates{.out = runs.at(0), .runs = runs, .end = 1}); },
              says("shares no memory"));
  EXPECT_THAT([&] { device.run(FoldStates{.out = out, .runs = runs.columns(0, 3), .end = 1}); },
              says("FoldStates.runs"));
  EXPECT_THAT([&] { device.run(FoldStates{.out = out, .carry = runs}); }, says("FoldStates.carry"));
}

}  // namespace
}  // namespace longscan::test

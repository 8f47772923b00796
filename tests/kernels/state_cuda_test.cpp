// The fold of states on the GPU against that of the CPU.
#include "kernels/state.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/cuda_case.h"

namespace longscan {
namespace {

using test::expect_close;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;

class FoldStatesOnCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::has_cuda()) GTEST_SKIP() << "there is no GPU";
  }

  Device cpu = Device::cpu(1);
};

// Calls `test` with folds of some of five runs, all but for `out`.
void for_folds(const OwnedTensor& runs, const OwnedTensor& carry,
               const std::function<void(FoldStates fold)>& test) {
  for (const bool ascending : {true, false}) {
    for (const bool carried : {true, false}) {
      for (const auto& [begin, end] : {std::pair{0, 5}, {1, 4}, {2, 2}, {4, 5}}) {
        test({.runs = runs,
              .carry = carried ? carry.view() : Tensor{},
              .begin = begin,
              .end = end,
              .ascending = ascending});
      }
    }
  }
}

TEST_F(FoldStatesOnCuda, AddsRunsInOrderToTheBit) {
  Device gpu = Device::cuda(0);
  for (const std::int64_t count : {0, 1, 33, 64, 1001}) {
    const OwnedTensor runs = OwnedTensor::random(DType::f32, {5, count}, 1);
    OwnedTensor carry = OwnedTensor::random(DType::f32, {count}, 2);
    for_folds(runs, carry, [&](FoldStates fold) {
      const OwnedTensor expected(DType::f32, {count});
      fold.out = expected;
      cpu.run(fold);
      const OwnedTensor out(DType::f32, {count});
      OnCuda on_gpu(gpu, {&out, &runs, &carry});
      fold.out = out;
      on_gpu.run(fold);
      EXPECT_EQ(out.values(), expected.values());
      if (!fold.carry.present()) return;
      fold.out = fold.carry;
      const std::vector<double> before = carry.values();
      on_gpu.run(fold);
      EXPECT_EQ(carry.values(), expected.values()) << "in place";
      for (std::int64_t i = 0; i < count; ++i) carry.set(i, before[static_cast<std::size_t>(i)]);
    });
  }
}

TEST_F(FoldStatesOnCuda, JoinsRowsOfAnyExponent) {
  Device gpu = Device::cuda(0);
  const double none = -std::numeric_limits<double>::infinity();
  for (const std::int64_t columns : {2, 3, 66, 130}) {
    constexpr std::int64_t kRows = 4;
    const std::int64_t count = kRows * columns;
    OwnedTensor runs = OwnedTensor::random(DType::f32, {5, count}, 1);
    OwnedTensor carry = OwnedTensor::random(DType::f32, {count}, 2);
    const auto set_exponent = [&](OwnedTensor& states, std::int64_t row, double exponent) {
      states.set((row + 1) * columns - 1, exponent);
      if (exponent != none) return;
      for (std::int64_t i = 0; i < columns - 1; ++i) states.set(row * columns + i, 0);
    };
    // The last row is of nothing in all runs, the others here and there.
    for (std::int64_t row = 0; row < 5 * kRows; ++row) {
      const bool nothing = row % kRows == kRows - 1 || row % 7 == 2;
      set_exponent(runs, row, nothing ? none : static_cast<double>(700 + row * 5 % 13));
    }
    for (std::int64_t row = 0; row < kRows; ++row) {
      set_exponent(carry, row, row > 1 ? none : static_cast<double>(703 + row));
    }
    for_folds(runs, carry, [&](FoldStates fold) {
      fold.exponent_columns = columns;
      const OwnedTensor runs64 = in_double(runs);
      const OwnedTensor carry64 = in_double(carry);
      const OwnedTensor expected(DType::f64, {count});
      FoldStates fold64 = fold;
      fold64.out = expected;
      fold64.runs = runs64;
      if (fold.carry.present()) fold64.carry = carry64;
      cpu.run(fold64);
      const OwnedTensor out(DType::f32, {count});
      const OwnedTensor in_place(DType::f32, {count}, carry.values());
      OnCuda on_gpu(gpu, {&out, &runs, &carry, &in_place});
      fold.out = out;
      on_gpu.run(fold);
      if (fold.carry.present()) {
        fold.out = fold.carry = in_place;
        on_gpu.run(fold);
        EXPECT_EQ(in_place.values(), out.values()) << "in place";
      }
      for (std::int64_t i = 0; i < count; ++i) {
        const double value = expected.get(i);
        if (value == none) {
          ASSERT_EQ(out.get(i), none) << i;
        } else {
          ASSERT_NEAR(out.get(i), value, 5e-6 * (1 + std::abs(value))) << i;
        }
      }
    });
  }
}

}  // namespace
}  // namespace longscan

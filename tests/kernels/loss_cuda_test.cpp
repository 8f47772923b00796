// Cross-entropy on the GPU against that of the CPU in double.
#include "kernels/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/cuda_case.h"
#include "tests/support/samples.h"

namespace longscan {
namespace {

using test::CudaOfType;
using test::expect_close;
using test::expect_error;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;
using test::targets_for;
using test::tolerance;

class CrossEntropyOnCuda : public CudaOfType {};

TEST_P(CrossEntropyOnCuda, IsThatOfTheCpuInDoubleForRowsOfAnyLength) {
  for (const auto& [tokens, vocabulary] : {std::pair{33, 1},
                                           {33, 2},
                                           {43, 30},
                                           {43, 32},
                                           {5000, 3},
                                           {5, 1024},
                                           {7, 1025},
                                           {7, 3000},
                                           {5, 3001},
                                           {2, 20000},
                                           {2, 20001}}) {
    OwnedTensor logits = OwnedTensor::random(dtype, {tokens, vocabulary}, 1, 3);
    const OwnedTensor targets = targets_for(logits);
    const OwnedTensor logits64 = in_double(logits);
    OwnedTensor totals(DType::f64, {3}, {1, 2, 3});
    OwnedTensor totals64(DType::f64, {3}, {1, 2, 3});
    cpu.run(CrossEntropy{.totals = totals64, .logits = logits64, .targets = targets});
    OnCuda on_gpu(gpu(), {&totals, &logits, &targets});
    const std::vector<double> before = logits.values();
    on_gpu.run(
        CrossEntropy{.totals = totals, .logits = logits, .targets = targets, .gradient = false});
    EXPECT_EQ(logits.values(), before);
    const std::string what = describe(logits);
    EXPECT_NEAR(totals.get(0), totals64.get(0), 1e-6 * totals64.get(0)) << what;
    EXPECT_EQ(totals.get(1), totals64.get(1)) << what;
    EXPECT_EQ(totals.get(2), totals64.get(2)) << what;
    const double loss = totals.get(0);
    totals = OwnedTensor(DType::f64, {3}, {1, 2, 3});
    OnCuda with_gradient(gpu(), {&totals, &logits, &targets});
    with_gradient.run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
    EXPECT_EQ(totals.get(0), loss) << what;
    expect_close(logits, logits64.values(), tolerance(dtype));
  }
}

TEST_P(CrossEntropyOnCuda, OfEqualLogitsTheFirstIsTheAnswer) {
  for (const std::int64_t vocabulary : {48, 43, 2048, 20000}) {
    for (const std::int64_t target : {0, 1, 2, 39, 40, 41}) {
      OwnedTensor logits(dtype, {1, vocabulary});
      logits.set(1, 2);
      logits.set(40, 2);
      const OwnedTensor targets(DType::i32, {1}, {static_cast<double>(target)});
      OwnedTensor totals(DType::f64, {3});
      OnCuda(gpu(), {&totals, &logits, &targets})
          .run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
      EXPECT_EQ(totals.get(1), target == 1 ? 1 : 0) << target << " of " << vocabulary;
    }
  }
}

TEST_P(CrossEntropyOnCuda, ExtremeLogitsStayFinite) {
  const double none = -std::numeric_limits<double>::infinity();
  OwnedTensor logits(dtype, {4, 3}, {1e4, -1e4, 0, 1e4, -1e4, 0, -1e4, -1e4, -1e4, none, none, -1});
  const OwnedTensor targets(DType::i32, {4}, {0, 1, 2, 2});
  OwnedTensor totals(DType::f64, {3});
  OnCuda(gpu(), {&totals, &logits, &targets})
      .run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  const double step = dtype == DType::bf16 ? 128 : 1e-3;  // 1e4 is rounded
  EXPECT_NEAR(totals.get(0), 2e4 + std::log(3.0), step);
  expect_close(logits, {0, 0, 0, 1, -1, 0, 1. / 3, 1. / 3, -2. / 3, 0, 0, 0}, tolerance(dtype));
}

TEST_P(CrossEntropyOnCuda, NanAnywhereShowsInTheLoss) {
  for (const std::int64_t vocabulary : {43, 2048}) {
    for (const std::int64_t place : {0, 5, 42}) {
      OwnedTensor logits = OwnedTensor::random(dtype, {1, vocabulary}, 1);
      logits.set(place, std::numeric_limits<double>::quiet_NaN());
      const OwnedTensor targets(DType::i32, {1}, {7});
      OwnedTensor totals(DType::f64, {3});
      OnCuda(gpu(), {&totals, &logits, &targets})
          .run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
      EXPECT_TRUE(std::isnan(totals.get(0))) << place;
    }
  }
}

TEST_P(CrossEntropyOnCuda, ATargetBeyondTheVocabularyIsNamedWhenTheDeviceIsWaitedFor) {
  for (const std::int64_t vocabulary : {33, 2048, 20000}) {
    OwnedTensor logits = OwnedTensor::random(dtype, {2, vocabulary}, 1);
    const OwnedTensor targets(DType::i32, {2}, {0, static_cast<double>(vocabulary)});
    OwnedTensor totals(DType::f64, {3});
    const std::string text = fmt::format("target {}, ", vocabulary);
    expect_error(ErrorKind::data, text, [&] {
      OnCuda(gpu(), {&totals, &logits, &targets})
          .run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
    });
    gpu().synchronize();  // says it once
  }
}

TEST_P(CrossEntropyOnCuda, AnEmptyShardCountsNothing) {
  const OwnedTensor logits(dtype, {0, 33});
  const OwnedTensor targets(DType::i32, {0});
  OwnedTensor totals(DType::f64, {3}, {1, 2, 3});
  OnCuda(gpu(), {&totals, &logits, &targets})
      .run(CrossEntropy{.totals = totals, .logits = logits, .targets = targets});
  EXPECT_EQ(totals.values(), (std::vector<double>{1, 2, 3}));
}

INSTANTIATE_TEST_SUITE_P(Types, CrossEntropyOnCuda, testing::Values(DType::f32, DType::bf16),
                         test::type_name);

}  // namespace
}  // namespace longscan

// Views and their slices, and the messages of broken contracts.
#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::expect_error;

std::vector<float> counting(std::int64_t count) {
  std::vector<float> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  return numbers;
}

TEST(Tensor, DenseIsRowMajor) {
  std::vector<float> numbers = counting(24);
  const Tensor tensor = Tensor::dense(numbers.data(), DType::f32, {2, 3, 4});
  EXPECT_EQ(tensor.size(), 24);
  EXPECT_EQ(tensor.bytes(), 96);
  EXPECT_EQ(tensor.stride[0], 12);
  EXPECT_EQ(tensor.stride[1], 4);
  EXPECT_EQ(tensor.stride[2], 1);
  EXPECT_TRUE(tensor.is_dense());
  EXPECT_EQ(describe(tensor), "f32[2, 3, 4]");
}

TEST(Tensor, ADefaultOneIsAbsent) {
  const Tensor tensor;
  EXPECT_FALSE(tensor.present());
  EXPECT_EQ(tensor.size(), 0);
  EXPECT_EQ(describe(tensor), "absent");
}

TEST(Tensor, SlicesPointAtTheirFirstElement) {
  std::vector<float> numbers = counting(24);
  const Tensor matrix = Tensor::dense(numbers.data(), DType::f32, {4, 6});
  EXPECT_EQ(*matrix.rows(1, 3).as<float>(), 6);
  EXPECT_EQ(matrix.rows(1, 3).shape[0], 2);
  EXPECT_TRUE(matrix.rows(1, 3).is_dense());
  const Tensor columns = matrix.columns(2, 5);
  EXPECT_EQ(*columns.as<float>(), 2);
  EXPECT_EQ(columns.shape[1], 3);
  EXPECT_EQ(columns.stride[0], 6);
  EXPECT_FALSE(columns.is_dense());
  EXPECT_EQ(*matrix.rows(2, 4).columns(1, 2).as<float>(), 13);
  EXPECT_EQ(*matrix.at(3).as<float>(), 18);
  EXPECT_EQ(matrix.at(3).rank, 1);
}

TEST(Tensor, HeadsOfAColumnSliceKeepTheGapBetweenTokens) {
  std::vector<float> numbers = counting(24);
  const Tensor fused = Tensor::dense(numbers.data(), DType::f32, {2, 12});
  const Tensor keys = fused.columns(4, 8).split_heads(2);
  EXPECT_EQ(describe(keys), "f32[2, 2, 2]");
  EXPECT_EQ(keys.stride[0], 12);
  EXPECT_EQ(keys.stride[1], 2);
  EXPECT_EQ(*keys.at(1).at(1).as<float>(), 18);
}

TEST(Tensor, AnEmptySliceIsAllowedAndDense) {
  std::vector<float> numbers = counting(6);
  const Tensor matrix = Tensor::dense(numbers.data(), DType::f32, {2, 3});
  EXPECT_EQ(matrix.rows(2, 2).size(), 0);
  EXPECT_TRUE(matrix.rows(2, 2).is_dense());
  EXPECT_EQ(Tensor::dense(nullptr, DType::f32, {0, 3}).rows(0, 0).data, nullptr);
}

TEST(Tensor, ReshapedKeepsTheElements) {
  std::vector<float> numbers = counting(12);
  const Tensor matrix = Tensor::dense(numbers.data(), DType::f32, {3, 4});
  EXPECT_EQ(describe(matrix.reshaped({2, 6})), "f32[2, 6]");
  EXPECT_EQ(matrix.reshaped({12}).data, matrix.data);
  expect_error(ErrorKind::internal, "Tensor.reshaped", [&] { (void)matrix.reshaped({5}); });
  expect_error(ErrorKind::internal, "with gaps", [&] { (void)matrix.columns(0, 2).reshaped({6}); });
}

TEST(Tensor, SlicesOutsideThrow) {
  const Tensor matrix = Tensor::dense(nullptr, DType::f32, {4, 6});
  expect_error(ErrorKind::internal, "Tensor.rows", [&] { (void)matrix.rows(3, 5); });
  expect_error(ErrorKind::internal, "Tensor.rows", [&] { (void)matrix.rows(2, 1); });
  expect_error(ErrorKind::internal, "Tensor.columns", [&] { (void)matrix.columns(-1, 2); });
  expect_error(ErrorKind::internal, "Tensor.split_heads", [&] { (void)matrix.split_heads(4); });
  expect_error(ErrorKind::internal, "Tensor.at", [&] { (void)matrix.at(4); });
  expect_error(ErrorKind::internal, "Tensor.shape", [] {
    (void)Tensor::dense(nullptr, DType::f32, {1, 1, 1, 1});
  });
}

TEST(Contract, MessagesNameTheOperandWhatItIsAndWhatItShouldBe) {
  const Tensor matrix = Tensor::dense(nullptr, DType::f32, {4, 6});
  expect_error(ErrorKind::internal, "Add.b is f32[4, 6], the contract is [4, 7]", [&] {
    require_shape("Add.b", matrix, {4, 7});
  });
  expect_error(ErrorKind::internal, "Add.b is f32[4, 6], the contract is f64",
               [&] { require_dtype("Add.b", matrix, DType::f64); });
  expect_error(ErrorKind::internal, "Add.b is f32[4, 3] with gaps",
               [&] { require_dense("Add.b", matrix.columns(0, 3)); });
  expect_error(ErrorKind::internal, "Add.b is absent, the contract is [4]",
               [&] { require_shape("Add.b", {}, {4}); });
  expect_error(ErrorKind::internal, "Add.b is i64[2], the contract is f32, f64 or bf16",
               [] { require_float("Add.b", Tensor::dense(nullptr, DType::i64, {2})); });
  expect_error(ErrorKind::internal, "x is out of contract, it is odd",
               [] { require(false, "x", "is odd"); });
  require_operand("Add.b", matrix, DType::f32, {4, 6});
}

TEST(Dispatch, CallsWithTheElementTypeAndRefusesOthers) {
  const auto size = []<class T>() { return static_cast<std::int64_t>(sizeof(T)); };
  for (const DType dtype : {DType::f32, DType::f64}) {
    EXPECT_EQ(for_float_type(dtype, size), size_of(dtype));
  }
  for (const DType dtype : {DType::i32, DType::i64}) {
    EXPECT_EQ(for_index_type(dtype, size), size_of(dtype));
  }
  expect_error(ErrorKind::internal, "i32", [&] { for_float_type(DType::i32, size); });
  expect_error(ErrorKind::internal, "f32", [&] { for_index_type(DType::f32, size); });
}

}  // namespace
}  // namespace longscan

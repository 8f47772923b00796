// A view of numbers in a device's memory: type, shape, strides. It owns nothing; `Buffer` does.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

namespace longscan {

enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u8 };

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};

/// Bytes of one element.
constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::f64:
      return 8;
    case DType::bf16:
      return 2;
    case DType::i32:
      return 4;
    case DType::i64:
      return 8;
    case DType::u8:
      return 1;
  }
  return 0;
}

const char* name_of(DType dtype);

/// What sums over numbers of a type are kept in, and what must not be rounded to it: states,
/// normalisers, gradients of weights, biases. f32 for bf16 (8 bits of mantissa), else the type
/// itself.
constexpr DType sum_type(DType dtype) {
  return dtype == DType::bf16 ? DType::f32 : dtype;
}

/// Up to three dimensions; the last one is contiguous (stride 1). Strides count elements. A default
/// Tensor is absent: optional operands of an operation are left so.
struct Tensor {
  static constexpr int kMaxRank = 3;

  void* data = nullptr;
  DType dtype = DType::f32;
  std::int32_t rank = 0;
  std::int64_t shape[kMaxRank] = {};
  std::int64_t stride[kMaxRank] = {};

  /// A dense row-major view of `data`. Throws internal when there are more than three dimensions.
  static Tensor dense(void* data, DType dtype, std::initializer_list<std::int64_t> shape);

  bool present() const { return rank > 0; }
  std::int64_t size() const;  ///< number of elements
  std::int64_t bytes() const { return size() * size_of(dtype); }
  bool is_dense() const;

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  /// Rows [begin, end) of the first dimension.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  /// Columns [begin, end) of the last dimension.
  Tensor columns(std::int64_t begin, std::int64_t end) const;
  /// [tokens, heads * dim] as [tokens, heads, dim]; needs rank 2.
  Tensor split_heads(std::int64_t heads) const;
  /// Entry `index` of the first dimension, one rank lower.
  Tensor at(std::int64_t index) const;
  /// The same elements under another shape; needs a dense tensor and the same size.
  Tensor reshaped(std::initializer_list<std::int64_t> shape) const;
};

/// "f32[2048, 4, 64]", for messages.
std::string describe(const Tensor& tensor);

/// Contract checks of the operations. Each throws `internal` naming the operand
/// ("LayerNorm.weight"), what it is and what it should be.
void require_shape(const char* operand, const Tensor& tensor,
                   std::initializer_list<std::int64_t> shape);
void require_dtype(const char* operand, const Tensor& tensor, DType dtype);
void require_dense(const char* operand, const Tensor& tensor);
void require_float(const char* operand, const Tensor& tensor);  ///< f32, f64 or bf16
/// Type, shape and no gaps at once.
void require_operand(const char* operand, const Tensor& tensor, DType dtype,
                     std::initializer_list<std::int64_t> shape);
void require(bool condition, const char* operand, const char* rule);

}  // namespace longscan

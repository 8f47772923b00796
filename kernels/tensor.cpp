// Views, their slices, and the messages of broken contracts.
#include "kernels/tensor.h"

#include <fmt/format.h>

#include "kernels/error.h"

namespace longscan {

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
  }
  return "unknown";
}

Tensor Tensor::dense(void* data, DType dtype, std::initializer_list<std::int64_t> shape) {
  require(shape.size() >= 1 && shape.size() <= kMaxRank, "Tensor.shape",
          "has one to three dimensions");
  Tensor tensor{.data = data, .dtype = dtype, .rank = static_cast<std::int32_t>(shape.size())};
  int dimension = 0;
  for (const std::int64_t extent : shape) tensor.shape[dimension++] = extent;
  std::int64_t stride = 1;
  for (int i = tensor.rank - 1; i >= 0; --i) {
    tensor.stride[i] = stride;
    stride *= tensor.shape[i];
  }
  return tensor;
}

std::int64_t Tensor::size() const {
  if (rank == 0) return 0;
  std::int64_t count = 1;
  for (int i = 0; i < rank; ++i) count *= shape[i];
  return count;
}

bool Tensor::is_dense() const {
  std::int64_t expected = 1;
  for (int i = rank - 1; i >= 0; --i) {
    if (shape[i] != 1 && stride[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

static Tensor shifted(Tensor tensor, std::int64_t elements) {
  if (elements != 0)
    tensor.data = static_cast<char*>(tensor.data) + elements * size_of(tensor.dtype);
  return tensor;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  require(rank >= 1 && begin >= 0 && begin <= end && end <= shape[0], "Tensor.rows", "lie inside");
  Tensor slice = shifted(*this, begin * stride[0]);
  slice.shape[0] = end - begin;
  return slice;
}

Tensor Tensor::columns(std::int64_t begin, std::int64_t end) const {
  require(rank >= 1 && begin >= 0 && begin <= end && end <= shape[rank - 1], "Tensor.columns",
          "lie inside");
  Tensor slice = shifted(*this, begin);
  slice.shape[rank - 1] = end - begin;
  return slice;
}

Tensor Tensor::split_heads(std::int64_t heads) const {
  require(rank == 2 && heads > 0 && shape[1] % heads == 0, "Tensor.split_heads",
          "needs [tokens, heads * dim]");
  Tensor split = *this;
  split.rank = 3;
  split.shape[1] = heads;
  split.shape[2] = shape[1] / heads;
  split.stride[1] = split.shape[2];
  split.stride[2] = 1;
  return split;
}

Tensor Tensor::at(std::int64_t index) const {
  require(rank >= 2 && index >= 0 && index < shape[0], "Tensor.at", "lies inside");
  Tensor entry = shifted(*this, index * stride[0]);
  entry.rank = rank - 1;
  for (int i = 0; i < entry.rank; ++i) {
    entry.shape[i] = shape[i + 1];
    entry.stride[i] = stride[i + 1];
  }
  return entry;
}

Tensor Tensor::reshaped(std::initializer_list<std::int64_t> new_shape) const {
  require_dense("Tensor.reshaped", *this);
  const Tensor result = dense(data, dtype, new_shape);
  require(result.size() == size(), "Tensor.reshaped", "keeps the number of elements");
  return result;
}

static std::string describe_shape(const std::int64_t* begin, const std::int64_t* end) {
  return fmt::format("[{}]", fmt::join(begin, end, ", "));
}

std::string describe(const Tensor& tensor) {
  if (!tensor.present()) return "absent";
  return name_of(tensor.dtype) + describe_shape(tensor.shape, tensor.shape + tensor.rank);
}

void require_shape(const char* operand, const Tensor& tensor,
                   std::initializer_list<std::int64_t> shape) {
  bool same = tensor.rank == static_cast<std::int32_t>(shape.size());
  int dimension = 0;
  for (const std::int64_t extent : shape) {
    same = same && tensor.shape[dimension] == extent;
    ++dimension;
  }
  if (same && (tensor.size() == 0 || tensor.stride[tensor.rank - 1] == 1)) return;
  throw Error(ErrorKind::internal,
              {.what = fmt::format("{} is {}", operand, describe(tensor)),
               .why = fmt::format("the contract is {} with a contiguous last dimension",
                                  describe_shape(shape.begin(), shape.end()))});
}

void require_dtype(const char* operand, const Tensor& tensor, DType dtype) {
  if (tensor.dtype == dtype) return;
  throw Error(ErrorKind::internal, {.what = fmt::format("{} is {}", operand, describe(tensor)),
                                    .why = fmt::format("the contract is {}", name_of(dtype))});
}

void require_dense(const char* operand, const Tensor& tensor) {
  if (tensor.is_dense()) return;
  throw Error(ErrorKind::internal,
              {.what = fmt::format("{} is {} with gaps", operand, describe(tensor)),
               .why = "the contract is a dense tensor"});
}

void require_float(const char* operand, const Tensor& tensor) {
  if (tensor.dtype == DType::f32 || tensor.dtype == DType::f64 || tensor.dtype == DType::bf16) {
    return;
  }
  throw Error(ErrorKind::internal, {.what = fmt::format("{} is {}", operand, describe(tensor)),
                                    .why = "the contract is f32, f64 or bf16"});
}

void require_operand(const char* operand, const Tensor& tensor, DType dtype,
                     std::initializer_list<std::int64_t> shape) {
  require_dtype(operand, tensor, dtype);
  require_shape(operand, tensor, shape);
  require_dense(operand, tensor);
}

void require(bool condition, const char* operand, const char* rule) {
  if (condition) return;
  throw Error(ErrorKind::internal, {.what = fmt::format("{} is out of contract", operand),
                                    .why = fmt::format("it {}", rule)});
}

}  // namespace longscan

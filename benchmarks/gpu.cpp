// Copies and products at full speed, checked number by number and at random places.
#include "benchmarks/gpu.h"

#include <algorithm>

#include "kernels/bfloat16.h"
#include "kernels/elementwise.h"
#include "kernels/host_copy.h"
#include "kernels/random.h"

namespace longscan::benchmark {

namespace {

// Numbers in [-1, 1] of 8 bits, which all types hold exactly. They repeat: drawing them takes
// longer than multiplying them.
class Numbers {
 public:
  explicit Numbers(std::uint64_t stream) : drawn_(65'521) {
    for (std::size_t i = 0; i < drawn_.size(); ++i) {
      const RandomWords words = random_words({1, RandomPurpose::sample, stream}, i);
      drawn_[i] = static_cast<float>(words[0] % 257) / 128 - 1;
    }
  }

  float operator[](std::int64_t index) const {
    return drawn_[static_cast<std::size_t>(index) % drawn_.size()];
  }

  template <class T>
  void upload(Device& device, const Tensor& tensor) const {
    std::vector<T> numbers(static_cast<std::size_t>(tensor.size()));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<T>((*this)[static_cast<std::int64_t>(i)]);
    }
    device.upload(tensor, numbers.data());
  }
  void upload(Device& device, const Tensor& tensor) const {
    tensor.dtype == DType::bf16 ? upload<Bfloat16>(device, tensor) : upload<float>(device, tensor);
  }

 private:
  std::vector<float> drawn_;
};

bool product_is_right(Device& device, const Tensor& out, const Numbers& a, const Numbers& b) {
  HostCopy copy;
  const Tensor found = copy.of(device, out);
  const std::int64_t size = out.shape[0];
  const double tolerance = size_of(out.dtype) == 2 ? 1.0 / 256 : 1e-3;  // TF32 included
  for (std::int64_t sample = 0; sample < 64; ++sample) {
    const RandomWords words = random_words({1, RandomPurpose::sample, 9}, sample);
    const std::int64_t row = words[0] % size, column = words[1] % size;
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      const double term = double{a[row * size + i]} * double{b[i * size + column]};
      sum += term, squares += term * term;
    }
    // Relative to what sums of so many terms are like.
    const double error = std::abs(found.as<float>()[row * size + column] - sum);
    if (!(error <= tolerance * (std::abs(sum) + std::sqrt(squares)))) return false;
  }
  return true;
}

}  // namespace

Ceiling copy_ceiling(Device& device, const Patience& patience, std::int64_t bytes) {
  const std::int64_t words = bytes / 8;
  const Buffer from_memory = device.allocate(bytes), to_memory = device.allocate(bytes);
  const Tensor from = Tensor::dense(from_memory.data(), DType::i64, {words});
  const Tensor to = Tensor::dense(to_memory.data(), DType::i64, {words});
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(words));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int64_t>(i * i);
  device.upload(from, numbers.data());
  const double seconds =
      seconds_a_call(device, patience, [&] { device.run(Copy{.out = to, .in = from}); });
  std::vector<std::int64_t> copied(numbers.size());
  device.download(copied.data(), to);
  return {.rate = 2 * static_cast<double>(bytes) / seconds, .right = copied == numbers};
}

Ceiling product_ceiling(Device& device, const Patience& patience, DType dtype, std::int64_t size) {
  const Buffer memory = device.allocate(3 * size * size * size_of(dtype));
  const auto matrix = [&](std::int64_t index) {
    return Tensor::dense(memory.data() + index * size * size * size_of(dtype), dtype, {size, size});
  };
  const MatMul product{.out = matrix(0), .a = matrix(1), .b = matrix(2)};
  const Numbers a(1), b(2);
  a.upload(device, product.a), b.upload(device, product.b);
  const double seconds = seconds_a_call(device, patience, [&] { device.run(product); });
  const auto edge = static_cast<double>(size);
  return {.rate = 2 * edge * edge * edge / seconds,
          .right = product_is_right(device, product.out, a, b)};
}

}  // namespace longscan::benchmark

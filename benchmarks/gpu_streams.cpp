// How near the operations that stream through a GPU's memory come to a copy, measured in the same
// run. Bytes are those that must be read and written: every operand once.
//
//   benchmark_gpu_streams [--tokens=131072 --width=768 --vocabulary=50304 --period=256
//                          --mebibytes=1024 --rounds=7 --milliseconds=30]
//
// The operands' rows repeat after `period` tokens, so that every row of a result can be held
// against the same operation in f32 on the CPU over one period; the program fails where one is off.
#include <functional>
#include <tuple>

#include "benchmarks/gpu.h"
#include "kernels/arena.h"
#include "kernels/bfloat16.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/host_copy.h"
#include "kernels/loss.h"
#include "kernels/normalization.h"
#include "kernels/optimizer.h"

namespace {

using namespace longscan;
using benchmark::Patience;

struct Sizes {
  std::int64_t tokens;
  std::int64_t width;
  std::int64_t vocabulary;
  std::int64_t period;
};

/// Makes operands of one device. `dtype` is that of activations.
class Operands {
 public:
  Operands(Device& device, DType dtype, std::int64_t tokens, const Sizes& sizes)
      : device(device), dtype(dtype), tokens(tokens), sizes_(sizes) {
    for (std::size_t i = 0; i < drawn_.size(); ++i) {
      const auto number = static_cast<float>(random_normal({1, RandomPurpose::sample, 5}, i));
      drawn_[i] = static_cast<float>(Bfloat16(number));
    }
  }

  Tensor nothing(DType type, std::initializer_list<std::int64_t> shape) {
    const Tensor tensor = memory_.take(type, shape);
    const std::vector<std::byte> zeros(static_cast<std::size_t>(tensor.bytes()));
    device.upload(tensor, zeros.data());
    return tensor;
  }
  /// Normal numbers times `scale`, of another row of the drawn ones for every `stream`.
  Tensor numbers(DType type, std::int64_t rows, std::int64_t columns, std::int64_t stream,
                 float scale = 1) {
    const Tensor tensor = memory_.take(type, {rows, columns});
    type == DType::bf16 ? fill<Bfloat16>(tensor, stream, scale)
                        : fill<float>(tensor, stream, scale);
    return tensor;
  }
  Tensor activations(std::int64_t columns, std::int64_t stream) {
    return numbers(dtype, tokens, columns, stream);
  }
  /// [count] f32
  Tensor parameters(std::int64_t rows, std::int64_t columns, std::int64_t stream, float scale = 1) {
    return numbers(DType::f32, rows, columns, stream, scale).reshaped({rows * columns});
  }
  /// [tokens] i32
  Tensor indices() {
    const Tensor tensor = memory_.take(DType::i32, {tokens});
    std::vector<std::int32_t> numbers;
    for (std::int64_t row = 0; row < tokens; ++row) {
      numbers.push_back(static_cast<std::int32_t>(row % sizes_.period * 7919 % sizes_.vocabulary));
    }
    device.upload(tensor, numbers.data());
    return tensor;
  }

  Device& device;
  const DType dtype;
  const std::int64_t tokens;

 private:
  template <class T>
  void fill(const Tensor& tensor, std::int64_t stream, float scale) {
    std::vector<T> numbers(static_cast<std::size_t>(tensor.size()));
    const std::int64_t columns = tensor.shape[1];
    for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
      for (std::int64_t i = 0; i < columns; ++i) {
        const std::int64_t draw = row % sizes_.period * columns + i + stream * 1009;
        const float number = scale * drawn_[static_cast<std::size_t>(draw) % drawn_.size()];
        numbers[static_cast<std::size_t>(row * columns + i)] = static_cast<T>(number);
      }
    }
    device.upload(tensor, numbers.data());
  }

  const Sizes& sizes_;
  std::vector<float> drawn_ = std::vector<float>(65'521);
  Arena memory_{device};
};

/// An operation that was given operands, and what comes of it: rows that repeat with those of the
/// operands, sums over all rows, or both.
struct Work {
  std::function<void()> run;
  Tensor rows = {};
  Tensor sums = {};
  double bytes = 0;
};

template <class Operation>
std::function<void()> runs(Operands& of, const Operation& operation) {
  return [&device = of.device, operation] { device.run(operation); };
}

double bytes_of(std::initializer_list<Tensor> tensors) {
  double bytes = 0;
  for (const Tensor& tensor : tensors) bytes += static_cast<double>(tensor.bytes());
  return bytes;
}

struct Case {
  const char* name;
  std::function<Work(Operands&, const Sizes&)> make;
  std::int64_t fewer_tokens = 1;  // divides the number of tokens
};

Work copy(Operands& of, const Sizes& sizes) {
  const Copy work{.out = of.activations(sizes.width, 0), .in = of.activations(sizes.width, 1)};
  return {.run = runs(of, work), .rows = work.out, .bytes = bytes_of({work.out, work.in})};
}

Work add(Operands& of, const Sizes& sizes) {
  const Add work{.out = of.activations(sizes.width, 0),
                 .a = of.activations(sizes.width, 1),
                 .b = of.activations(sizes.width, 2)};
  return {.run = runs(of, work), .rows = work.out, .bytes = bytes_of({work.out, work.a, work.b})};
}

Work gelu(Operands& of, const Sizes& sizes) {
  const Activation work{.out = of.activations(sizes.width, 0),
                        .in = of.activations(sizes.width, 1)};
  return {.run = runs(of, work), .rows = work.out, .bytes = bytes_of({work.out, work.in})};
}

Work gelu_backward(Operands& of, const Sizes& sizes) {
  const ActivationBackward work{.d_in = of.activations(sizes.width, 0),
                                .d_out = of.activations(sizes.width, 1),
                                .in = of.activations(sizes.width, 2)};
  return {.run = runs(of, work),
          .rows = work.d_in,
          .bytes = bytes_of({work.d_in, work.d_out, work.in})};
}

Work swiglu(Operands& of, const Sizes& sizes) {
  const SwiGlu work{.out = of.activations(sizes.width, 0),
                    .in = of.activations(2 * sizes.width, 1)};
  return {.run = runs(of, work), .rows = work.out, .bytes = bytes_of({work.out, work.in})};
}

Work normalize(Operands& of, const Sizes& sizes) {
  const Normalize work{.out = of.activations(sizes.width, 0),
                       .rstd = of.nothing(DType::f32, {of.tokens}),
                       .mean = of.nothing(DType::f32, {of.tokens}),
                       .in = of.activations(sizes.width, 1),
                       .weight = of.parameters(1, sizes.width, 2),
                       .bias = of.parameters(1, sizes.width, 3)};
  return {.run = runs(of, work),
          .rows = work.out,
          .bytes = bytes_of({work.out, work.in, work.rstd, work.mean})};
}

Work normalize_backward(Operands& of, const Sizes& sizes) {
  const NormalizeBackward work{.d_in = of.activations(sizes.width, 0),
                               .d_weight = of.nothing(DType::f32, {sizes.width}),
                               .d_bias = of.nothing(DType::f32, {sizes.width}),
                               .d_out = of.activations(sizes.width, 1),
                               .in = of.activations(sizes.width, 2),
                               .weight = of.parameters(1, sizes.width, 3),
                               .rstd = of.parameters(of.tokens, 1, 4, 0.1F),
                               .mean = of.parameters(of.tokens, 1, 5, 0.1F)};
  return {.run = runs(of, work),
          .rows = work.d_in,
          .sums = work.d_weight,
          .bytes = bytes_of({work.d_in, work.d_in, work.d_out, work.in, work.rstd, work.mean})};
}

Work embedding(Operands& of, const Sizes& sizes) {
  const Embedding work{.out = of.activations(sizes.width, 0),
                       .table = of.numbers(of.dtype, sizes.vocabulary, sizes.width, 1),
                       .index = of.indices()};
  return {.run = runs(of, work), .rows = work.out, .bytes = bytes_of({work.out, work.index})};
}

Work embedding_backward(Operands& of, const Sizes& sizes) {
  const EmbeddingBackward work{.d_table = of.nothing(DType::f32, {sizes.vocabulary, sizes.width}),
                               .d_out = of.activations(sizes.width, 1),
                               .index = of.indices()};
  return {.run = runs(of, work), .sums = work.d_table, .bytes = bytes_of({work.d_out, work.index})};
}

Work cross_entropy(Operands& of, const Sizes& sizes) {
  const CrossEntropy work{.totals = of.nothing(DType::f64, {3}),
                          .logits = of.activations(sizes.vocabulary, 0),
                          .targets = of.indices()};
  return {.run = runs(of, work),
          .rows = work.logits,
          .sums = work.totals,
          .bytes = bytes_of({work.logits, work.logits, work.targets})};
}

Work adamw(Operands& of, const Sizes& sizes) {
  const Tensor one = of.nothing(DType::f64, {1});
  of.device.run(Fill{.out = one, .value = 1});
  const AdamW work{.parameter = of.parameters(of.tokens, sizes.width, 0),
                   .first_moment = of.nothing(DType::f32, {of.tokens * sizes.width}),
                   .second_moment = of.nothing(DType::f32, {of.tokens * sizes.width}),
                   .gradient = of.parameters(of.tokens, sizes.width, 1),
                   .gradient_scale = one,
                   .rounded = of.nothing(DType::bf16, {of.tokens * sizes.width}),
                   .learning_rate = 1e-2,
                   .weight_decay = 0.1};
  const auto [p, m, v] = std::tie(work.parameter, work.first_moment, work.second_moment);
  return {.run = runs(of, work),
          .rows = p,
          .bytes = bytes_of({p, p, m, m, v, v, work.gradient, work.rounded})};
}

Work sum_of_squares(Operands& of, const Sizes& sizes) {
  const SumOfSquares work{.out = of.nothing(DType::f64, {1}),
                          .in = of.parameters(of.tokens, sizes.width, 1)};
  return {.run = runs(of, work), .sums = work.out, .bytes = bytes_of({work.in})};
}

const Case kCases[] = {{"Copy", copy},
                       {"Add", add},
                       {"Activation, GELU", gelu},
                       {"ActivationBackward, GELU", gelu_backward},
                       {"SwiGlu", swiglu},
                       {"Normalize, LayerNorm", normalize},
                       {"NormalizeBackward, LayerNorm", normalize_backward},
                       {"Embedding", embedding},
                       {"EmbeddingBackward", embedding_backward},
                       {"CrossEntropy with its gradient", cross_entropy, 16},
                       {"AdamW, f32 and rounded to bf16", adamw},
                       {"SumOfSquares, f32", sum_of_squares}};

double number_at(const Tensor& tensor, std::int64_t index) {
  return tensor.dtype == DType::f64 ? tensor.as<double>()[index] : tensor.as<float>()[index];
}

// Whether `found` is `factor` times `truth`, which repeats, as near as bf16 comes.
bool is_near(const Tensor& found, const Tensor& truth, double factor) {
  double largest = 0;
  for (std::int64_t i = 0; i < truth.size(); ++i) {
    largest = std::max(largest, std::abs(factor * number_at(truth, i)));
  }
  for (std::int64_t begin = 0; begin < found.size(); begin += truth.size()) {
    for (std::int64_t i = 0; i < truth.size(); ++i) {
      const double error = std::abs(number_at(found, begin + i) - factor * number_at(truth, i));
      if (!(error <= largest / 128)) return false;
    }
  }
  return true;
}

bool is_right(Device& device, const Work& work, const Case& one, std::int64_t tokens,
              const Sizes& sizes) {
  Device cpu = Device::cpu(1);
  Operands operands(cpu, DType::f32, sizes.period, sizes);
  const Work truth = one.make(operands, sizes);
  truth.run(), work.run();
  HostCopy rows, sums;
  const double periods = static_cast<double>(tokens) / static_cast<double>(sizes.period);
  const bool rows_are_right =
      !work.rows.present() || is_near(rows.of(device, work.rows), truth.rows, 1);
  return rows_are_right &&
         (!work.sums.present() || is_near(sums.of(device, work.sums), truth.sums, periods));
}

bool measure(const benchmark::Options& options) {
  const Patience patience(options);
  const Sizes sizes{.tokens = options.number("tokens", 131'072, 256),
                    .width = options.number("width", 768, 40),
                    .vocabulary = options.number("vocabulary", 50'304, 50),
                    .period = options.number("period", 256, 16)};
  require(sizes.tokens % (16 * sizes.period) == 0, "--tokens", "is a multiple of 16 periods");
  Device device = Device::cuda(0);
  const benchmark::Ceiling peak =
      copy_ceiling(device, patience, options.number("mebibytes", 1024, 1) << 20);
  fmt::print("### Operations that stream: {}; {} tokens, width {}, bf16; copy {:.0f} GB/s\n\n",
             device.name(), sizes.tokens, sizes.width, peak.rate / 1e9);
  fmt::print("| operation | us | GB/s | share of the copy |\n|---|---|---|---|\n");
  bool right = peak.right;
  for (const Case& one : kCases) {
    const std::int64_t tokens = sizes.tokens / one.fewer_tokens;
    Operands operands(device, DType::bf16, tokens, sizes);
    const Work work = one.make(operands, sizes);
    const bool fine = is_right(device, work, one, tokens, sizes);
    const double seconds = seconds_a_call(device, patience, work.run);
    const double rate = work.bytes / seconds;
    fmt::print("| {} | {:.1f} | {:.0f} | {:.0f} % |{}\n", one.name, seconds * 1e6, rate / 1e9,
               100 * rate / peak.rate, fine ? "" : " WRONG");
    std::fflush(stdout);
    right = right && fine;
  }
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  return benchmark::run_benchmark(argc, argv, measure);
}

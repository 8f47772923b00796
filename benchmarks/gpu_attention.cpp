// Time of linear attention on a GPU, feature map and normaliser included, per token and head; and
// what its results are off.
//
//   benchmark_gpu_attention [--tokens=16384 --heads=64 --longest=1048576 --rounds=7
//                            --milliseconds=30 --threads=CORES]
//
// Every case is causal, of one document. The first table has times for `heads` heads of `tokens`
// tokens, and for one head of as many tokens as all these. The second has the errors of one head
// from 1,024 to `longest` tokens: results against the same in double on the CPU, of the same
// numbers: the root of the mean square of the differences relative to that of the result, and the
// worst of the gradients. The program fails where an error is more than rounding makes.
#include <thread>

#include "benchmarks/attention_call.h"
#include "benchmarks/gpu.h"

namespace {

using namespace longscan;
using benchmark::AttentionCall;
using benchmark::CallShape;
using benchmark::Patience;

struct Case {
  const char* name;
  AttentionKind kind;
  std::int64_t dim;
  DType dtype;
  const char* times;  // the target: picoseconds forward, forward and backward
};

constexpr Case kCases[] = {
    {"elu1, D = 64, bf16", AttentionKind::elu1, 64, DType::bf16, "140, 410"},
    {"elu1, D = 128, bf16", AttentionKind::elu1, 128, DType::bf16, "280, 850"},
    {"favor_softmax, D = 64, M = 256, bf16", AttentionKind::favor_softmax, 64, DType::bf16,
     "360, 1200"},
    {"elu1, D = 64, f32", AttentionKind::elu1, 64, DType::f32, ""},
    {"favor_softmax, D = 64, M = 256, f32", AttentionKind::favor_softmax, 64, DType::f32, ""},
};

// Beyond these something is broken. In bf16 the features of queries and keys, what they give
// together and the output are each rounded to 8 bits, which alone makes 0.8e-3 every time;
// gradients take rounded outputs besides.
struct Bounds {
  double out;
  double gradients;
};

Bounds bounds_of(DType dtype) {
  return dtype == DType::bf16 ? Bounds{2.5e-3, 1e-2} : Bounds{1e-5, 1e-5};
}

CallShape shape_of(const Case& one, std::int64_t tokens, std::int64_t heads) {
  return {.options = {.kind = one.kind, .features = 256},
          .tokens = tokens,
          .heads = heads,
          .dim = one.dim};
}

// Picoseconds a token and head.
struct Times {
  double forward = 0;
  double both = 0;
};

Times measure(Device& device, const Patience& patience, const Case& one, std::int64_t tokens,
              std::int64_t heads) {
  AttentionCall call(device, one.dtype, shape_of(one, tokens, heads));
  const double scale = 1e12 / static_cast<double>(tokens * heads);
  const double forward = seconds_a_call(device, patience, [&] { call.forward(); });
  const double both = seconds_a_call(device, patience, [&] { call.forward(), call.backward(); });
  return {scale * forward, scale * both};
}

void print_times(Device& device, const Patience& patience, std::int64_t tokens,
                 std::int64_t heads) {
  fmt::print("### Linear attention: {}; ps a token and head\n\n", device.name());
  fmt::print("| case | heads x tokens | forward | forward + backward | target |\n");
  fmt::print("|---|---|---|---|---|\n");
  for (const Case& one : kCases) {
    const Times many = measure(device, patience, one, tokens, heads);
    fmt::print("| {} | {} x {} | {:.0f} | {:.0f} | {} |\n", one.name, heads, tokens, many.forward,
               many.both, one.times);
    const Times single = measure(device, patience, one, tokens * heads, 1);
    fmt::print("| | 1 x {} | {:.0f} ({:.2f} times) | {:.0f} ({:.2f} times) | 1.5 times |\n",
               tokens * heads, single.forward, single.forward / many.forward, single.both,
               single.both / many.both);
    std::fflush(stdout);
  }
}

bool print_errors(Device& device, Device& cpu, std::int64_t longest) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t tokens = std::min<std::int64_t>(1024, longest); tokens < longest;
       tokens *= 32) {
    lengths.push_back(tokens);
  }
  lengths.push_back(longest);
  fmt::print("\n### Linear attention: errors of output and gradients, by tokens\n\n| case |");
  for (const std::int64_t tokens : lengths) fmt::print(" {} |", tokens);
  fmt::print(" target of the output |\n|---|---|");
  for (std::size_t i = 0; i < lengths.size(); ++i) fmt::print("---|");
  fmt::print("\n");
  bool right = true;
  for (const Case& one : kCases) {
    const Bounds bounds = bounds_of(one.dtype);
    fmt::print("| {} |", one.name);
    for (const std::int64_t tokens : lengths) {
      const benchmark::CallError error = error_of(device, one.dtype, shape_of(one, tokens, 1), cpu);
      const bool fine = error.out.mean <= bounds.out && error.gradients.mean <= bounds.gradients;
      fmt::print(" {:.1e}, {:.1e}{} |", error.out.mean, error.gradients.mean, fine ? "" : " WRONG");
      std::fflush(stdout);
      right = right && fine;
    }
    // Outputs in bf16 are rounded themselves, to 1.7e-3.
    fmt::print(" {} |\n", one.dtype == DType::bf16 ? "2.2e-3 (1.5e-3 and rounding)" : "1e-5");
  }
  return right;
}

bool measure_all(const benchmark::Options& options) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  Device device = Device::cuda(0);
  Device cpu = Device::cpu(static_cast<int>(options.number("threads", std::max(1, cores), 1)));
  print_times(device, Patience(options), options.number("tokens", 16'384, 48),
              options.number("heads", 64, 2));
  return print_errors(device, cpu, options.number("longest", 1 << 20, 130));
}

}  // namespace

int main(int argc, char** argv) {
  return benchmark::run_benchmark(argc, argv, measure_all);
}

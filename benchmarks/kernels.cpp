// Time of attention, feature map and normaliser included, per token, head and thread.
//
//   benchmark_kernels [--threads=2 --tokens=2048 --dim=64 --repeats=21]
//   benchmark_kernels --kinds=1 [--kind=NAME --longest=65536 --longest-softmax=16384 --heads=4
//                     --features=256 --projected-length=256 --out=FILE ...]
//
// First form: causal elu1 for several numbers of heads. Second: every kind, causal and not, for
// lengths from 1,024 on, with the exponent by which time grows; --out writes the table for
// plot.sh. Every kind and shape is first checked against the same call in double; the program fails
// when one is off. The peak is that of a 2048^3 product, measured between the repeats.
#include "benchmarks/attention_call.h"
#include "benchmarks/kinds.h"
#include "benchmarks/measure.h"

namespace {

using namespace longscan;
using benchmark::AttentionCall;
using benchmark::CallShape;
using benchmark::median;
using benchmark::number_option;
using benchmark::seconds_of;
using benchmark::text_option;

constexpr double kLargestError = 1e-4;

struct Setting {
  int threads;
  std::int64_t repeats;
};

// Medians; seconds a call.
struct Times {
  double forward = 0;
  double backward = 0;
  double both = 0;
  double peak = 0;  // FLOP/s
};

Times measure(Device& device, benchmark::Peak& peak, const CallShape& shape, std::int64_t repeats) {
  AttentionCall call(device, DType::f32, shape);
  call.forward(), call.backward();
  std::vector<double> forward, backward, both, peaks;
  for (std::int64_t i = 0; i < repeats; ++i) {
    forward.push_back(seconds_of([&] { call.forward(); }));
    backward.push_back(seconds_of([&] { call.backward(); }));
    both.push_back(forward.back() + backward.back());
    if (i % 4 == 0) peaks.push_back(peak.measure());
  }
  return {median(forward), median(backward), median(both), median(peaks)};
}

bool over_heads(Device& device, benchmark::Peak& peak, CallShape shape, const Setting& setting) {
  bool right = true;
  fmt::print(
      "causal elu1 attention, dim {}, {} tokens, {} threads; us per token, head and thread\n",
      shape.dim, shape.tokens, setting.threads);
  fmt::print("{:>6} {:>9} {:>9} {:>9} {:>12} {:>10}\n", "heads", "forward", "backward", "both",
             "peak GF/s", "error");
  for (const std::int64_t heads : {1, 2, 3, 4, 8}) {
    shape.heads = heads;
    const double error = error_of(device, DType::f32, shape, device).largest();
    const bool fine = error < kLargestError;
    right = right && fine;
    const Times times = measure(device, peak, shape, setting.repeats);
    const double scale = 1e6 * setting.threads / static_cast<double>(shape.tokens * heads);
    fmt::print("{:6} {:9.3f} {:9.3f} {:9.3f} {:12.1f} {:10.1e}{}\n", heads, scale * times.forward,
               scale * times.backward, scale * times.both, times.peak / 1e9, error,
               fine ? "" : "  WRONG");
  }
  return right;
}

// One kind at all lengths.
bool over_lengths(Device& device, benchmark::Peak& peak, CallShape shape, const Setting& setting,
                  const benchmark::Lengths& lengths, benchmark::Table& table) {
  const AttentionKind kind = shape.options.kind;
  const char* sees = shape.causal ? "causal" : "bidirectional";
  // No multiple of a chunk.
  shape.tokens = 1000;
  const double error = error_of(device, DType::f32, shape, device).largest();
  const bool fine = error < kLargestError;
  std::vector<benchmark::Point> points;
  for (shape.tokens = lengths.shortest; shape.tokens <= lengths.longest_of(kind);
       shape.tokens *= 2) {
    // The longest calls take seconds.
    const std::int64_t calls = std::max<std::int64_t>(3, setting.repeats * 4096 / shape.tokens);
    const Times times = measure(device, peak, shape, std::min(setting.repeats, calls));
    const auto tokens = static_cast<double>(shape.tokens);
    const double scale = 1e6 * setting.threads / (tokens * static_cast<double>(shape.heads));
    points.push_back({tokens, times.both});
    fmt::print("{:>17} {:>14} {:7} {:9.3f} {:9.3f} {:9.3f} {:10.2f} {:10.1f} {:9.1e}{}\n",
               name_of(kind), sees, shape.tokens, scale * times.forward, scale * times.backward,
               scale * times.both, times.both * 1e3, times.peak / 1e9, error,
               fine ? "" : "  WRONG");
    table.row(name_of(kind), sees, shape.tokens, times.both * 1e3);
  }
  if (points.size() > 1) {
    fmt::print("{:>17} {:>14} time grows by length^{:.3f}\n", name_of(kind), sees,
               fitted_exponent(points));
  }
  std::fflush(stdout);
  return fine;
}

bool over_kinds(Device& device, benchmark::Peak& peak, CallShape shape, const Setting& setting,
                const benchmark::Lengths& lengths, const std::string& only,
                benchmark::Table& table) {
  fmt::print("attention, {} heads, dim {}, {} features, {} projected rows, {} threads; ",
             shape.heads, shape.dim, shape.options.features, shape.options.projected_length,
             setting.threads);
  fmt::print("us per token, head and thread; ms a call\n");
  fmt::print("{:>17} {:>14} {:>7} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9}\n", "kind", "", "tokens",
             "forward", "backward", "both", "ms", "peak GF/s", "error");
  bool right = true;
  for (const AttentionKind kind : benchmark::kinds_named(only)) {
    shape.options.kind = kind;
    for (const bool causal : {true, false}) {
      if (causal && kind == AttentionKind::linformer) continue;
      if (!causal && kind == AttentionKind::identity) continue;  // the same
      shape.causal = causal;
      right = over_lengths(device, peak, shape, setting, lengths, table) && right;
    }
  }
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](const char* name, std::int64_t otherwise) {
    return number_option(argc, argv, name, otherwise);
  };
  const Setting setting{.threads = static_cast<int>(number("threads", 2)),
                        .repeats = number("repeats", 21)};
  const CallShape shape{.options = {.features = number("features", 256),
                                    .projected_length = number("projected-length", 256)},
                        .tokens = number("tokens", 2048),
                        .heads = number("heads", 4),
                        .dim = number("dim", 64)};
  Device device = Device::cpu(setting.threads);
  benchmark::Peak peak(device);
  peak.measure();
  if (number("kinds", 0) == 0) return over_heads(device, peak, shape, setting) ? 0 : 1;
  benchmark::Table table(text_option(argc, argv, "out", ""));
  const benchmark::Lengths lengths = benchmark::lengths_option(argc, argv);
  const std::string only = text_option(argc, argv, "kind", "");
  return over_kinds(device, peak, shape, setting, lengths, only, table) ? 0 : 1;
}

// Time of causal linear attention, feature map and normaliser included, per token, head and thread.
//
//   benchmark_kernels [--threads=2 --tokens=2048 --dim=64 --repeats=21]
//
// Every shape is first checked against the same call in double; the program fails when one is off.
// The peak is that of a 2048^3 product, measured between the repeats.
#include "benchmarks/measure.h"
#include "kernels/linear_attention.h"
#include "kernels/random.h"

namespace {

using namespace longscan;
using benchmark::median;
using benchmark::number_option;
using benchmark::seconds_of;

// One head layout with joint query, key, value as in the model.
struct Call {
  Device& device;
  Buffer memory;
  Tensor query, key, value, out, d_out, normalizer, d_query, d_key, d_value;

  Call(Device& on, DType dtype, std::int64_t tokens, std::int64_t heads, std::int64_t dim)
      : device(on), memory(on.allocate(tokens * heads * (8 * dim + 1) * size_of(dtype))) {
    std::int64_t offset = 0;
    const auto take = [&](std::int64_t columns) {
      const Tensor tensor = Tensor::dense(memory.data() + offset, dtype, {tokens, columns});
      offset += tensor.bytes();
      return tensor;
    };
    const std::int64_t width = heads * dim;
    const Tensor joint = take(3 * width);
    const Tensor d_joint = take(3 * width);
    const auto part = [&](const Tensor& from, std::int64_t index) {
      return from.columns(index * width, (index + 1) * width).split_heads(heads);
    };
    query = part(joint, 0), key = part(joint, 1), value = part(joint, 2);
    d_query = part(d_joint, 0), d_key = part(d_joint, 1), d_value = part(d_joint, 2);
    out = take(width).split_heads(heads);
    const Tensor gradient = take(width);
    d_out = gradient.split_heads(heads);
    normalizer = take(heads);
    fill(joint, 0), fill(gradient, 1);
  }

  static void fill(const Tensor& tensor, std::uint64_t step) {
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      const double x =
          random_normal({1, RandomPurpose::sample, step}, static_cast<std::uint64_t>(i));
      tensor.dtype == DType::f32 ? tensor.as<float>()[i] = static_cast<float>(x)
                                 : tensor.as<double>()[i] = x;
    }
  }

  void forward() {
    device.run(LinearAttention{.out = out, .normalizer = normalizer, .input = input()});
  }
  void backward() {
    const LinearAttentionGradient gradient{d_out, out, normalizer};
    device.run(
        LinearAttentionBackwardQuery{.d_query = d_query, .input = input(), .gradient = gradient});
    device.run(LinearAttentionBackwardKeyValue{
        .d_key = d_key, .d_value = d_value, .input = input(), .gradient = gradient});
  }
  LinearAttentionInput input() const { return {.query = query, .key = key, .value = value}; }
};

// Largest difference of a result from that in double, relative to its largest number.
double error_of(const Tensor& got, const Tensor& truth) {
  double largest = 0, worst = 0;
  for (std::int64_t token = 0; token < truth.shape[0]; ++token) {
    for (std::int64_t i = 0; i < truth.shape[1] * truth.shape[2]; ++i) {
      const double expected = truth.as<double>()[token * truth.stride[0] + i];
      const double found = got.as<float>()[token * got.stride[0] + i];
      largest = std::max(largest, std::abs(expected));
      worst = std::max(worst, std::abs(found - expected));
    }
  }
  return worst / largest;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = static_cast<int>(number_option(argc, argv, "threads", 2));
  const std::int64_t tokens = number_option(argc, argv, "tokens", 2048);
  const std::int64_t dim = number_option(argc, argv, "dim", 64);
  const std::int64_t repeats = number_option(argc, argv, "repeats", 21);
  Device device = Device::cpu(threads);
  benchmark::Peak peak(device);
  peak.measure();
  bool right = true;
  fmt::print(
      "causal elu1 attention, dim {}, {} tokens, {} threads; us per token, head and thread\n", dim,
      tokens, threads);
  fmt::print("{:>6} {:>9} {:>9} {:>9} {:>12} {:>10}\n", "heads", "forward", "backward", "both",
             "peak GF/s", "error");
  for (const std::int64_t heads : {1, 2, 3, 4, 8}) {
    Call exact(device, DType::f64, tokens, heads, dim);
    Call call(device, DType::f32, tokens, heads, dim);
    exact.forward(), exact.backward();
    call.forward(), call.backward();
    double error = 0;
    for (const auto& [got, truth] :
         {std::pair{call.out, exact.out}, std::pair{call.d_query, exact.d_query},
          std::pair{call.d_key, exact.d_key}, std::pair{call.d_value, exact.d_value}}) {
      error = std::max(error, error_of(got, truth));
    }
    right = right && error < 1e-4;
    std::vector<double> forward, backward, both, peaks;
    for (std::int64_t i = 0; i < repeats; ++i) {
      const double scale = 1e6 * threads / static_cast<double>(tokens * heads);
      forward.push_back(scale * seconds_of([&] { call.forward(); }));
      backward.push_back(scale * seconds_of([&] { call.backward(); }));
      both.push_back(forward.back() + backward.back());
      if (i % 4 == 0) peaks.push_back(peak.measure());
    }
    fmt::print("{:6} {:9.3f} {:9.3f} {:9.3f} {:12.1f} {:10.1e}{}\n", heads, median(forward),
               median(backward), median(both), median(peaks) / 1e9, error,
               error < 1e-4 ? "" : "  WRONG");
  }
  return right ? 0 : 1;
}

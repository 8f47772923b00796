// What a GPU reaches at best: copies within its memory and matrix products, by the library's own
// operations.
//
//   benchmark_gpu_ceilings [--mebibytes=1024 --size=8192 --rounds=7 --milliseconds=30]
//
// Copies are compared number by number, products at 64 places with sums in double.
#include "benchmarks/gpu.h"

namespace {

using namespace longscan;
using benchmark::Ceiling;
using benchmark::Patience;

bool row(const char* what, const Ceiling& ceiling, double unit, const char* name) {
  fmt::print("| {} | {:.2f} {} |{}\n", what, ceiling.rate / unit, name,
             ceiling.right ? "" : " WRONG");
  return ceiling.right;
}

bool measure(const benchmark::Options& options) {
  const Patience patience(options);
  const std::int64_t bytes = options.number("mebibytes", 1024, 1) << 20;
  const std::int64_t size = options.number("size", 8192, 96);
  Device device = Device::cuda(0);
  Device tf32 = Device::cuda(0, {.tf32 = true});
  fmt::print("### Ceilings: {}\n\n| | |\n|---|---|\n", device.name());
  const auto product = [&](const char* what, Device& on, DType dtype) {
    return row(what, product_ceiling(on, patience, dtype, size), 1e12, "TFLOP/s");
  };
  const bool copied =
      row("copy, bytes read and written", copy_ceiling(device, patience, bytes), 1e12, "TB/s");
  const bool multiplied = product("product, bf16", device, DType::bf16);
  const bool rounded = product("product, f32 as TF32", tf32, DType::f32);
  return product("product, f32", device, DType::f32) && copied && multiplied && rounded;
}

}  // namespace

int main(int argc, char** argv) {
  return benchmark::run_benchmark(argc, argv, measure);
}

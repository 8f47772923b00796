// What the benchmarks of GPUs share: times of calls that a GPU goes on with by itself, what it
// reaches at best, and the program around it all.
#pragma once

#include <exception>

#include "benchmarks/measure.h"
#include "kernels/error.h"

namespace longscan::benchmark {

/// "--name=value" of the command line. With --small=1 other sizes stand where none are named: to
/// try out whether everything works, also where a CPU stands for the GPU.
class Options {
 public:
  Options(int argc, char** argv)
      : argc_(argc), argv_(argv), small_(number_option(argc, argv, "small", 0) != 0) {}

  std::int64_t number(const char* name, std::int64_t usual, std::int64_t small) const {
    return number_option(argc_, argv_, name, small_ ? small : usual);
  }
  std::string text(const char* name, const char* usual) const {
    return text_option(argc_, argv_, name, usual);
  }

 private:
  int argc_;
  char** argv_;
  bool small_;
};

/// How long to measure: a round lasts `seconds` at least.
struct Patience {
  std::int64_t rounds;
  double seconds;

  explicit Patience(const Options& options)
      : rounds(options.number("rounds", 7, 1)),
        seconds(1e-3 * static_cast<double>(options.number("milliseconds", 30, 0))) {}
};

/// The median over rounds of as many calls as fill one, behind one call to warm up. Calls follow
/// each other on the GPU without waiting, as in a model.
double seconds_a_call(Device& device, const Patience& patience, const auto& call) {
  const auto seconds_of_calls = [&](std::int64_t count) {
    return seconds_of([&] {
      for (std::int64_t i = 0; i < count; ++i) call();
      device.synchronize();
    });
  };
  seconds_of_calls(1);
  const double once = seconds_of_calls(1);
  const auto count = static_cast<std::int64_t>(std::clamp(patience.seconds / once, 1.0, 1e4));
  std::vector<double> seconds;
  for (std::int64_t round = 0; round < patience.rounds; ++round) {
    seconds.push_back(seconds_of_calls(count) / static_cast<double>(count));
  }
  return median(seconds);
}

/// A rate in practice, and whether what was computed at it is right.
struct Ceiling {
  double rate = 0;
  bool right = true;
};

/// Bytes a second, read and written, of a copy of `bytes` bytes within the GPU's memory.
Ceiling copy_ceiling(Device& device, const Patience& patience, std::int64_t bytes);

/// FLOP/s of a product of `size` x `size` matrices of random numbers, which take more power than
/// zeros do.
Ceiling product_ceiling(Device& device, const Patience& patience, DType dtype, std::int64_t size);

/// What a benchmark's main does: `body` is given the options, and says whether everything measured
/// was right. Returns the exit code.
int run_benchmark(int argc, char** argv, const auto& body) {
  try {
    const bool right = body(Options(argc, argv));
    if (!right) fmt::print(stderr, "a result is WRONG\n");
    return right ? 0 : 1;
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return exit_code(error.kind());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return exit_code(ErrorKind::internal);
  }
}

}  // namespace longscan::benchmark

// Time per token and memory of a long window that is worked through in segments, against a window
// of one segment.
//
//   benchmark_window [--tokens=1048576 --segment=8192 --width=128 --layers=4 --heads=2 --threads=2]
//
// One step of each length on one rank, in turns: short, long, short. The short one visits every
// token once, the long one visits all but the last segment twice. Fails when a loss is not finite.
#include <sys/resource.h>

#include "benchmarks/measure.h"
#include "dist/thread_communicator.h"
#include "kernels/random.h"
#include "model/trainer.h"

namespace {

using namespace longscan;
using benchmark::number_option;
using benchmark::seconds_of;

struct Line {
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t> positions;
  std::int64_t start = 0;

  explicit Line(std::int64_t count) {
    for (std::int64_t i = 0; i <= count; ++i) {
      const RandomWords words = random_words({1, RandomPurpose::sample, 0}, i);
      tokens.push_back(static_cast<std::int32_t>(words[0] % 256));
      positions.push_back(i);
    }
  }

  std::vector<Shard> segments(std::int64_t segment) const {
    std::vector<Shard> shards;
    const auto size = static_cast<std::int64_t>(tokens.size()) - 1;
    for (std::int64_t begin = 0; begin < size; begin += segment) {
      const auto count = static_cast<std::size_t>(std::min(segment, size - begin));
      shards.push_back({.tokens = {tokens.data() + begin, count},
                        .targets = {tokens.data() + begin + 1, count},
                        .positions = {positions.data() + begin, count},
                        .document_starts = {&start, begin == 0 ? 1u : 0u},
                        .first_token = begin});
    }
    return shards;
  }
};

double peak_memory_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

}  // namespace

int main(int argc, char** argv) {
  ModelOptions model;
  model.vocabulary = 256;
  model.width = number_option(argc, argv, "width", 128);
  model.layers = number_option(argc, argv, "layers", 4);
  model.heads = number_option(argc, argv, "heads", 2);
  model.hidden = 4 * model.width;
  const std::int64_t tokens = number_option(argc, argv, "tokens", std::int64_t{1} << 20);
  const std::int64_t segment = number_option(argc, argv, "segment", 8192);
  const int threads = static_cast<int>(number_option(argc, argv, "threads", 2));
  const Line line(tokens);
  const Line short_line(segment);
  bool finite = true;

  run_ranks(1, [&](Communicator& world) {
    Device device = Device::cpu(threads);
    Mesh mesh(world, 0);
    Trainer trainer(model, {.learning_rate = 1e-4}, 1, device, mesh);
    const auto step = [&](const Line& from) {
      const std::vector<Shard> shards = from.segments(segment);
      const double seconds = seconds_of([&] {
        const StepReport report = trainer.step(shards);
        finite = finite && std::isfinite(report.totals.loss);
      });
      return seconds / static_cast<double>(from.tokens.size() - 1);
    };
    const auto short_steps = [&] {
      std::vector<double> times;
      for (int i = 0; i < 15; ++i) times.push_back(step(short_line));
      return benchmark::median(times);
    };
    benchmark::Peak peak(device);
    peak.measure();
    std::vector<double> peaks{peak.measure()};
    short_steps();
    const double before = short_steps();
    const double long_time = step(line);
    const double after = short_steps();
    const double short_time = (before + after) / 2;
    for (int i = 0; i < 4; ++i) peaks.push_back(peak.measure());
    fmt::print("peak (2048^3 fp32 product) {:.1f} GFLOP/s\n", benchmark::median(peaks) / 1e9);
    fmt::print("width {} layers {} heads {} segments of {} tokens, {} threads\n", model.width,
               model.layers, model.heads, segment, threads);
    fmt::print("window {:8}: {:7.3f} us a token ({:.3f} before, {:.3f} after the long one)\n",
               segment, 1e6 * short_time, 1e6 * before, 1e6 * after);
    fmt::print("window {:8}: {:7.3f} us a token, {:.3f} times as much; peak memory {:.0f} MiB\n",
               tokens, 1e6 * long_time, long_time / short_time, peak_memory_mib());
  });
  return finite ? 0 : 1;
}

// How near a whole training step comes to the machine's matrix-product peak, measured in the same
// run.
//
//   benchmark_step [--width=256 --layers=4 --heads=4 --tokens=2048 --threads=2 --repeats=15]
//   mpirun --bind-to core -n 2 benchmark_step --processes=1 [...]
//   benchmark_step --kinds=1 [--kind=NAME --longest=65536 --longest-softmax=16384 --out=FILE ...]
//   benchmark_step --depth=1 [...]
//
// --kinds=1 compares all kinds of attention with the identity, --depth=1 the memory of reversible
// models with that of others: see step_kinds.h. Else:
// Alternates the peak, a step on one rank with all threads, and a step on as many ranks of one
// thread. A step is everything: embedding, layers, loss, backward, gradient sum, clipping, AdamW.
// FLOPs counted: 6 a matrix weight and token, and 12 * features * (value_dim + 1) a token, head and
// layer for linear attention (what the recurrence needs; the work inside chunks is not counted).
// Fails when the ranks' losses differ from the one rank's.
#include <barrier>

#include "benchmarks/step_kinds.h"
#include "dist/mpi_communicator.h"
#include "dist/thread_communicator.h"

namespace {

using namespace longscan;
using benchmark::Measured;
using benchmark::median;
using benchmark::number_option;
using benchmark::Setting;

double flops_of(const Setting& setting) {
  const ModelOptions& model = setting.model;
  const double layer = 4.0 * model.width * model.width + 2.0 * model.width * model.hidden;
  const double weights = model.layers * layer + static_cast<double>(model.vocabulary * model.width);
  const double attention = 12.0 * static_cast<double>(model.layers * model.state_size(0));
  return (6 * weights + attention) * static_cast<double>(setting.tokens);
}

// Ranks as threads that share setting.threads; they make a step whenever it is their turn.
class Contender {
 public:
  Contender(const Setting& setting, int ranks, int repeats)
      : turn_(2), thread_([this, setting, ranks, repeats] {
          run_ranks(ranks, [&](Communicator& world) {
            const auto wait = [&] { turn_.arrive_and_wait(); };
            Measured mine = run_steps(world, setting, setting.threads / ranks, repeats, wait, wait);
            if (world.rank() == 0) measured_ = std::move(mine);
          });
        }) {}

  void step() {
    turn_.arrive_and_wait();
    turn_.arrive_and_wait();
  }
  Measured finish() {
    thread_.join();
    return measured_;
  }

 private:
  Measured measured_;
  std::barrier<> turn_;
  std::thread thread_;
};

void say(const Setting& setting, int ranks, int threads, const Measured& measured, double peak) {
  const double seconds = median(measured.seconds);
  const double rate = flops_of(setting) / seconds;
  fmt::print("width {} layers {} heads {} tokens {}: ", setting.model.width, setting.model.layers,
             setting.model.heads, setting.tokens);
  fmt::print("{} ranks of {} threads {:8.2f} ms {:8.1f} GFLOP/s {:6.1f} % of peak   loss {:.6f}\n",
             ranks, threads, seconds * 1e3, rate / 1e9, 100 * rate / peak, measured.loss);
}

int compare_ranks_with_threads(const Setting& setting, int repeats) {
  Contender single(setting, 1, repeats);
  Contender ranks(setting, setting.threads, repeats);
  Device device = Device::cpu(setting.threads);
  benchmark::Peak peak(device);
  peak.measure();
  std::vector<double> peaks;
  for (int i = 0; i < repeats + 2; ++i) {
    peaks.push_back(peak.measure());
    single.step();
    ranks.step();
  }
  const Measured one = single.finish();
  const Measured many = ranks.finish();
  fmt::print("peak (2048^3 fp32 product) {:.1f} GFLOP/s\n", median(peaks) / 1e9);
  say(setting, 1, setting.threads, one, median(peaks));
  say(setting, setting.threads, 1, many, median(peaks));
  fmt::print("{} ranks reach {:.1f} % of one rank\n", setting.threads,
             100 * median(one.seconds) / median(many.seconds));
  const bool same = std::abs(one.loss - many.loss) < 1e-4 * one.loss;
  if (!same) fmt::print("WRONG: the losses differ\n");
  return same ? 0 : 1;
}

int measure_processes(const Setting& setting, int repeats, int argc, char** argv) {
  const MpiEnvironment mpi(&argc, &argv);
  MpiCommunicator world(MPI_COMM_WORLD);
  // The peak of all processes at once, each on its own core: the sum of theirs.
  Device device = Device::cpu(1);
  benchmark::Peak peak(device);
  std::vector<double> peaks;
  const auto measure_peak = [&] {
    world.barrier();
    double sum = peak.measure();
    world.all_reduce_sum(Tensor::dense(&sum, DType::f64, {1}));
    peaks.push_back(sum);
  };
  for (int i = 0; i < 5; ++i) measure_peak();
  const auto nothing = [] {};
  const Measured mine = run_steps(world, setting, 1, repeats, nothing, nothing);
  for (int i = 0; i < 5; ++i) measure_peak();
  if (world.rank() != 0) return 0;
  fmt::print("peak (2048^3 fp32 product) {:.1f} GFLOP/s\n", median(peaks) / 1e9);
  say(setting, world.size(), 1, mine, median(peaks));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Setting setting;
  setting.model.vocabulary = 256;
  setting.model.width = number_option(argc, argv, "width", 256);
  setting.model.layers = number_option(argc, argv, "layers", 4);
  setting.model.heads = number_option(argc, argv, "heads", 4);
  setting.model.hidden = 4 * setting.model.width;
  setting.tokens = number_option(argc, argv, "tokens", 2048);
  setting.threads = static_cast<int>(number_option(argc, argv, "threads", 2));
  const int repeats = static_cast<int>(number_option(argc, argv, "repeats", 15));

  if (number_option(argc, argv, "processes", 0) != 0) {
    return measure_processes(setting, repeats, argc, argv);
  }
  if (number_option(argc, argv, "kinds", 0) != 0) {
    const std::string only = benchmark::text_option(argc, argv, "kind", "");
    benchmark::Table table(benchmark::text_option(argc, argv, "out", ""));
    const bool right =
        benchmark::compare_kinds(setting, benchmark::kinds_named(only),
                                 benchmark::lengths_option(argc, argv), repeats, table);
    return right ? 0 : 1;
  }
  if (number_option(argc, argv, "depth", 0) != 0) {
    return benchmark::compare_depths(setting, repeats) ? 0 : 1;
  }
  return compare_ranks_with_threads(setting, repeats);
}

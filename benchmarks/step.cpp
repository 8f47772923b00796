// How near a whole training step comes to the machine's matrix-product peak, measured in the same
// run.
//
//   benchmark_step [--width=256 --layers=4 --heads=4 --tokens=2048 --threads=2 --repeats=15]
//
// Alternates the peak, a step on one rank with all threads, and a step on as many ranks of one
// thread. A step is everything: embedding, layers, loss, backward, gradient sum, clipping, AdamW.
// FLOPs counted: 6 a matrix weight and token, and 12 * features * (value_dim + 1) a token, head and
// layer for linear attention (what the recurrence needs; the work inside chunks is not counted).
// Fails when the ranks' losses differ from the one rank's.
#include <barrier>
#include <optional>

#include "benchmarks/measure.h"
#include "dist/thread_communicator.h"
#include "kernels/random.h"
#include "model/trainer.h"

namespace {

using namespace longscan;
using benchmark::median;
using benchmark::number_option;
using benchmark::seconds_of;

struct Setting {
  ModelOptions model;
  std::int64_t tokens;
  int threads;
};

struct Line {
  std::vector<std::int32_t> tokens, targets;
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> starts{0};

  Line(std::int64_t count, std::int64_t vocabulary) {
    for (std::int64_t i = 0; i <= count; ++i) {
      const RandomWords words = random_words({1, RandomPurpose::sample, 0}, i);
      const auto token = static_cast<std::int32_t>(words[0] % vocabulary);
      if (i < count) tokens.push_back(token), positions.push_back(i);
      if (i > 0) targets.push_back(token);
    }
  }

  Shard part(std::int64_t index, std::int64_t parts) const {
    const auto size = static_cast<std::int64_t>(tokens.size());
    const std::int64_t begin = size * index / parts;
    const auto count = static_cast<std::size_t>(size * (index + 1) / parts - begin);
    return {.tokens = {tokens.data() + begin, count},
            .targets = {targets.data() + begin, count},
            .positions = {positions.data() + begin, count},
            .document_starts = {starts.data(), index == 0 ? 1u : 0u},
            .first_token = begin};
  }
};

double flops_of(const Setting& setting) {
  const ModelOptions& model = setting.model;
  const double layer = 4.0 * model.width * model.width + 2.0 * model.width * model.hidden;
  const double weights = model.layers * layer + static_cast<double>(model.vocabulary * model.width);
  const double attention = 12.0 * model.layers * model.state_size();
  return (6 * weights + attention) * static_cast<double>(setting.tokens);
}

// Steps on `ranks` ranks that share the threads; each call of `run` is one step timed on all ranks
// together.
class Contender {
 public:
  Contender(const Setting& setting, int ranks, int repeats, std::barrier<>& turns)
      : line_(setting.tokens, setting.model.vocabulary), thread_([=, this, &turns] {
          run_ranks(ranks, [&](Communicator& world) {
            Device device = Device::cpu(setting.threads / ranks);
            Mesh mesh(world, 0);
            Trainer trainer(setting.model, {.learning_rate = 1e-4}, 1, device, mesh);
            const Shard shard = line_.part(world.rank(), ranks);
            for (int i = 0; i < repeats + 2; ++i) {
              if (world.rank() == 0) turns.arrive_and_wait();
              world.barrier();
              StepReport report;
              const double seconds = seconds_of([&] { report = trainer.step({&shard, 1}); });
              if (world.rank() != 0) continue;
              loss_ = report.totals.loss / report.totals.tokens;
              if (i >= 2) seconds_.push_back(seconds);
              turns.arrive_and_wait();
            }
          });
        }) {}
  ~Contender() { thread_.join(); }

  double seconds() const { return median(seconds_); }
  double loss() const { return loss_; }

 private:
  Line line_;
  std::vector<double> seconds_;
  double loss_ = 0;
  std::thread thread_;
};

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

  std::vector<double> peaks;
  double one_loss = 0, many_loss = 0, one = 0, many = 0;
  {
    std::barrier<> one_turn(2), many_turn(2);
    Contender single(setting, 1, repeats, one_turn);
    Contender ranks(setting, setting.threads, repeats, many_turn);
    Device device = Device::cpu(setting.threads);
    benchmark::Peak peak(device);
    peak.measure();
    for (int i = 0; i < repeats + 2; ++i) {
      peaks.push_back(peak.measure());
      for (std::barrier<>* turn : {&one_turn, &many_turn}) {
        turn->arrive_and_wait();
        turn->arrive_and_wait();
      }
    }
    one = single.seconds(), many = ranks.seconds();
    one_loss = single.loss(), many_loss = ranks.loss();
  }
  const double flops = flops_of(setting);
  const double top = median(peaks);
  fmt::print("width {} layers {} heads {} tokens {} threads {}\n", setting.model.width,
             setting.model.layers, setting.model.heads, setting.tokens, setting.threads);
  fmt::print("peak (2048^3 fp32 product)       {:8.1f} GFLOP/s\n", top / 1e9);
  fmt::print("1 rank of {} threads   {:8.2f} ms {:8.1f} GFLOP/s   {:5.1f} % of peak\n",
             setting.threads, one * 1e3, flops / one / 1e9, 100 * flops / one / top);
  fmt::print(
      "{} ranks of 1 thread   {:8.2f} ms {:8.1f} GFLOP/s   {:5.1f} % of peak   {:5.1f} % of 1 "
      "rank\n",
      setting.threads, many * 1e3, flops / many / 1e9, 100 * flops / many / top, 100 * one / many);
  const bool same = std::abs(one_loss - many_loss) < 1e-4 * one_loss;
  fmt::print("losses {:.6f} and {:.6f}: {}\n", one_loss, many_loss, same ? "equal" : "WRONG");
  return same ? 0 : 1;
}

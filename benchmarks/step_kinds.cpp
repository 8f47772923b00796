// Each measurement has a process of its own, so that the most memory it had is the model's.
#include "benchmarks/step_kinds.h"

#include <memory>

#include "benchmarks/child_process.h"
#include "dist/thread_communicator.h"

namespace longscan::benchmark {

namespace {

// The longest steps take seconds, so there are fewer of them.
constexpr double kSecondsOfSteps = 30;
constexpr int kFewestRepeats = 3;
constexpr double kMebibyte = 1 << 20;

// What is linear in the length has an exponent of 1, but for caches and fixed costs.
constexpr double kLargestExponent = 1.05;
// By so much the memory of reversible models may differ between depths: it is measured as the
// process's, in large pages, of which a small model has few. Ordinary models need six times as
// much.
constexpr double kSameMemory = 1.25;

struct Found {
  double seconds = 0;   // of a step, as all here
  double identity = 0;  // of a step with identity in place of attention
  double peak = 0;      // FLOP/s
  double bytes = 0;     // of a step, beside parameters and optimizer
  double loss = std::nan("");
};

// A model on one rank and its line.
class Subject {
 public:
  Subject(const Setting& setting, Communicator& world, Device& device)
      : line_(setting.tokens, setting.model.vocabulary),
        shard_(line_.part(0, 1)),
        mesh_(world, 0),
        trainer_(setting.model, {.learning_rate = 1e-4}, 1, device, mesh_) {}

  /// Seconds.
  double step() {
    return seconds_of([&] {
      const LossTotals totals = trainer_.step({&shard_, 1}).totals;
      loss_ = totals.loss / totals.tokens;
    });
  }
  double loss() const { return loss_; }

 private:
  Line line_;
  Shard shard_;
  Mesh mesh_;
  Trainer trainer_;
  double loss_ = 0;
};

ModelOptions with_kind(ModelOptions model, AttentionKind kind, std::int64_t tokens) {
  model.attention.kind = kind;
  model.causal = kind != AttentionKind::linformer;
  model.longest_document = kind == AttentionKind::linformer ? tokens : 0;
  return model;
}

int repeats_within(int repeats, double seconds_of_one) {
  const auto fitting = static_cast<int>(std::min(1e6, kSecondsOfSteps / seconds_of_one));
  return std::clamp(fitting, std::min(repeats, kFewestRepeats), repeats);
}

// In a process of its own. `identity`: what to alternate with, if anything.
Found measure(const Setting& setting, const Setting* identity, int repeats) {
  Found found;
  run_ranks(1, [&](Communicator& world) {
    Device device = Device::cpu(setting.threads);
    Peak peak(device);
    peak.measure();
    Subject subject(setting, world, device);
    const double before = resident_bytes();
    double once = subject.step();
    found.bytes = peak_resident_bytes() - before;
    std::unique_ptr<Subject> other;
    if (identity != nullptr) {
      other = std::make_unique<Subject>(*identity, world, device);
      once += other->step();
    }
    std::vector<double> seconds, others, peaks;
    const int rounds = repeats_within(repeats, once);
    for (int i = 0; i < rounds; ++i) {
      peaks.push_back(peak.measure());
      seconds.push_back(subject.step());
      if (other != nullptr) others.push_back(other->step());
    }
    found.seconds = median(seconds), found.peak = median(peaks);
    if (other != nullptr) found.identity = median(others);
    found.loss = subject.loss();
  });
  return found;
}

// Three steps over a short line: two ranks find the losses of one.
bool ranks_agree(Setting setting) {
  setting.tokens = 300;
  setting.model = with_kind(setting.model, setting.model.attention.kind, setting.tokens);
  const auto loss_on = [&](int ranks) {
    double loss = 0;
    run_ranks(ranks, [&](Communicator& world) {
      const auto nothing = [] {};
      const Measured measured = run_steps(world, setting, 1, 1, nothing, nothing);
      if (world.rank() == 0) loss = measured.loss;
    });
    return loss;
  };
  const double one = loss_on(1);
  return std::abs(loss_on(2) - one) < 1e-4 * one;
}

bool over_lengths(Setting setting, AttentionKind kind, const Lengths& lengths, int repeats,
                  Table& table) {
  setting.model.attention.kind = kind;
  const bool agree = in_child<bool>([&] { return ranks_agree(setting); });
  bool right = agree;
  const char* sees = kind == AttentionKind::linformer ? "bidirectional" : "causal";
  std::vector<Point> times, memory;
  for (setting.tokens = lengths.shortest; setting.tokens <= lengths.longest_of(kind);
       setting.tokens *= 2) {
    setting.model = with_kind(setting.model, kind, setting.tokens);
    Setting identity = setting;
    identity.model = with_kind(setting.model, AttentionKind::identity, setting.tokens);
    const Found found = in_child<Found>([&] { return measure(setting, &identity, repeats); });
    const auto tokens = static_cast<double>(setting.tokens);
    right = right && std::isfinite(found.loss);
    times.push_back({tokens, found.seconds});
    memory.push_back({tokens, found.bytes});
    fmt::print("{:>17} {:>14} {:7} {:10.1f} {:9.2f} {:9.3f} {:9.1f} {:10.1f}  {:.4f}{}\n",
               name_of(kind), sees, setting.tokens, found.seconds * 1e3,
               found.seconds * 1e6 / tokens, found.seconds / found.identity,
               found.bytes / kMebibyte, found.peak / 1e9, found.loss,
               agree && std::isfinite(found.loss) ? "" : "  WRONG");
    table.row(name_of(kind), sees, setting.tokens, found.seconds * 1e3);
  }
  if (times.size() > 1) {
    const double time_exponent = fitted_exponent(times);
    const double memory_exponent = fitted_exponent(memory);
    const bool slow = kind != AttentionKind::softmax && time_exponent > kLargestExponent;
    // Memory is not noisy, so there a miss is a failure.
    const bool large = memory_exponent > kLargestExponent;
    right = right && !large;
    fmt::print("{:>17} {:>14} time grows by length^{:.3f}{}, memory by length^{:.3f}{}\n",
               name_of(kind), sees, time_exponent, slow ? " (missed)" : "", memory_exponent,
               large ? "  WRONG" : "");
  }
  return right;
}

}  // namespace

bool compare_kinds(const Setting& setting, const std::vector<AttentionKind>& kinds,
                   const Lengths& lengths, int repeats, Table& table) {
  fmt::print("training step, width {} layers {} heads {}, {} threads\n", setting.model.width,
             setting.model.layers, setting.model.heads, setting.threads);
  fmt::print("{:>17} {:>14} {:>7} {:>10} {:>9} {:>9} {:>9} {:>10}  loss\n", "kind", "", "tokens",
             "ms", "us/token", "/identity", "MiB", "peak GF/s");
  bool right = true;
  for (const AttentionKind kind : kinds) {
    right = over_lengths(setting, kind, lengths, repeats, table) && right;
  }
  return right;
}

bool compare_depths(const Setting& setting, int repeats) {
  fmt::print("width {} heads {} tokens {}, {} threads\n", setting.model.width, setting.model.heads,
             setting.tokens, setting.threads);
  fmt::print("{:>10} {:>7} {:>9} {:>10} {:>10}  loss\n", "reversible", "layers", "MiB", "ms",
             "peak GF/s");
  bool right = true;
  for (const bool reversible : {false, true}) {
    double shallow = 0;  // bytes of the first
    for (const std::int64_t layers : {2, 4, 8, 16}) {
      Setting deep = setting;
      deep.model.layers = layers;
      deep.model.reversible = reversible;
      const Found found = in_child<Found>([&] { return measure(deep, nullptr, repeats); });
      if (shallow == 0) shallow = found.bytes;
      const bool fine =
          std::isfinite(found.loss) && (!reversible || found.bytes < kSameMemory * shallow);
      right = right && fine;
      fmt::print("{:>10} {:7} {:9.1f} {:10.1f} {:10.1f}  {:.4f}{}\n", reversible ? "yes" : "no",
                 layers, found.bytes / kMebibyte, found.seconds * 1e3, found.peak / 1e9, found.loss,
                 fine ? "" : "  WRONG");
    }
  }
  return right;
}

}  // namespace longscan::benchmark

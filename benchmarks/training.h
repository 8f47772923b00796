// Training steps on random bytes, as the benchmarks of whole steps make them.
#pragma once

#include <cstdint>
#include <vector>

#include "benchmarks/measure.h"
#include "dist/communicator.h"
#include "kernels/random.h"
#include "model/trainer.h"

namespace longscan::benchmark {

/// What a step is made of.
struct Setting {
  ModelOptions model;
  std::int64_t tokens;
  int threads;
};

/// A line of one document.
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

/// What one rank measures: the seconds of all steps but the first two, and the last loss.
struct Measured {
  std::vector<double> seconds;
  double loss = 0;
};

/// `repeats` steps of one rank; `before` and `after` are called by the first rank around each.
template <class Before, class After>
Measured run_steps(Communicator& world, const Setting& setting, int threads, int repeats,
                   const Before& before, const After& after) {
  const Line line(setting.tokens, setting.model.vocabulary);
  Device device = Device::cpu(threads);
  Mesh mesh(world, 0);
  Trainer trainer(setting.model, {.learning_rate = 1e-4}, 1, device, mesh);
  const Shard shard = line.part(world.rank(), world.size());
  Measured measured;
  for (int i = 0; i < repeats + 2; ++i) {
    if (world.rank() == 0) before();
    world.barrier();
    StepReport report;
    const double seconds = seconds_of([&] { report = trainer.step({&shard, 1}); });
    measured.loss = report.totals.loss / report.totals.tokens;
    if (i >= 2) measured.seconds.push_back(seconds);
    if (world.rank() == 0) after();
  }
  return measured;
}

}  // namespace longscan::benchmark

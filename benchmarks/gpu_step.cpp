// Whole training steps of a model of GPT-2 small's shape on a GPU, for windows of 1,024 to
// 1,048,576 tokens: tokens a second, and whether they stay the same.
//
//   benchmark_gpu_step [--shortest=1024 --longest=1048576 --line=131072 --segment=131072
//                       --width=768 --layers=12 --heads=12 --vocabulary=50304 --steps=6
//                       --precision=bf16 --kind=elu1]
//
// A line has windows for `line` tokens, or one where it is longer, and is worked through in
// segments of at most `segment` tokens: all but the last are visited twice. A step is everything:
// embedding, layers, loss, backward, clipping, AdamW. Medians of all steps but the first two. The
// program fails where the first loss is not that of a model that knows nothing, the logarithm of
// the vocabulary, or where the loss does not fall from step to step on the same line.
#include "benchmarks/gpu.h"
#include "benchmarks/kinds.h"
#include "dist/thread_communicator.h"
#include "kernels/random.h"
#include "model/trainer.h"

namespace {

using namespace longscan;
struct Setting {
  ModelOptions model;
  std::int64_t line;
  std::int64_t segment;
  std::int64_t steps;
};

/// Windows of random tokens one after the other, each a document.
class Windows {
 public:
  Windows(std::int64_t tokens, std::int64_t window, std::int64_t vocabulary) {
    for (std::int64_t i = 0; i < tokens; ++i) {
      const RandomWords words =
          random_words({1, RandomPurpose::sample, 0}, static_cast<std::uint64_t>(i));
      tokens_.push_back(static_cast<std::int32_t>(words[0] % vocabulary));
      targets_.push_back(static_cast<std::int32_t>(words[1] % vocabulary));
      positions_.push_back(i % window);
    }
  }

  std::vector<Shard> segments(std::int64_t segment) {
    const auto size = static_cast<std::int64_t>(tokens_.size());
    const std::int64_t count = (size + segment - 1) / segment;
    starts_.assign(static_cast<std::size_t>(count), {});
    std::vector<Shard> shards;
    for (std::int64_t index = 0; index < count; ++index) {
      const std::int64_t begin = size * index / count;
      const auto tokens = static_cast<std::size_t>(size * (index + 1) / count - begin);
      std::vector<std::int64_t>& starts = starts_[static_cast<std::size_t>(index)];
      for (std::size_t i = 0; i < tokens; ++i) {
        if (positions_[static_cast<std::size_t>(begin) + i] == 0) {
          starts.push_back(static_cast<std::int64_t>(i));
        }
      }
      shards.push_back({.tokens = {tokens_.data() + begin, tokens},
                        .targets = {targets_.data() + begin, tokens},
                        .positions = {positions_.data() + begin, tokens},
                        .document_starts = starts,
                        .first_token = begin});
    }
    return shards;
  }

 private:
  std::vector<std::int32_t> tokens_, targets_;
  std::vector<std::int64_t> positions_;
  std::vector<std::vector<std::int64_t>> starts_;  // of every segment
};

struct Measured {
  double seconds = 0;
  double first_loss = 0;
  double last_loss = 0;
  double activation_bytes = 0;
};

Measured train(Device& device, const Setting& setting, const std::vector<Shard>& segments) {
  Measured measured;
  run_ranks(1, [&](Communicator& world) {
    Mesh mesh(world, 0);
    Trainer trainer(setting.model,
                    {.learning_rate = 1e-3, .warmup_steps = 1, .schedule = Schedule::constant}, 1,
                    device, mesh);
    std::vector<double> seconds;
    for (std::int64_t step = 0; step < setting.steps + 2; ++step) {
      StepReport report;
      const double took = benchmark::seconds_of([&] {
        report = trainer.step(segments);
        device.synchronize();
      });
      if (step >= 2) seconds.push_back(took);
      measured.last_loss = report.totals.loss / report.totals.tokens;
      if (step == 0) measured.first_loss = measured.last_loss;
    }
    measured.seconds = benchmark::median(seconds);
    measured.activation_bytes = static_cast<double>(trainer.transformer().activation_bytes());
  });
  return measured;
}

// Of which the work within chunks of attention is not counted.
double flops_a_token(const ModelOptions& model) {
  const auto width = static_cast<double>(model.width);
  const double layer = 4 * width * width + 2 * width * static_cast<double>(model.hidden);
  const double weights =
      static_cast<double>(model.layers) * layer + static_cast<double>(model.vocabulary) * width;
  return 6 * weights + 12 * static_cast<double>(model.layers * model.state_size(0));
}

bool measure_windows(Device& device, const Setting& setting, std::int64_t shortest,
                     std::int64_t longest) {
  const ModelOptions& model = setting.model;
  fmt::print("### Training step: {}; {} layers, width {}, {} heads, vocabulary {}, {}, {}\n\n",
             device.name(), model.layers, model.width, model.heads, model.vocabulary,
             name_of(model.attention.kind), name_of(model.dtype));
  fmt::print("| window | line | segments | ms a step | tokens/s | of the first | TFLOP/s | ");
  fmt::print("activations, GiB | loss, first and last |\n|---|---|---|---|---|---|---|---|---|\n");
  const double ignorance = std::log(static_cast<double>(model.vocabulary));
  bool right = true;
  double first_rate = 0;
  for (std::int64_t window = shortest; window <= longest; window *= 4) {
    const std::int64_t line = std::max(window, setting.line / window * window);
    Windows windows(line, window, model.vocabulary);
    const std::vector<Shard> segments = windows.segments(setting.segment);
    const Measured found = train(device, setting, segments);
    const double rate = static_cast<double>(line) / found.seconds;
    if (first_rate == 0) first_rate = rate;
    const bool fine =
        std::abs(found.first_loss - ignorance) < 0.5 && found.last_loss < found.first_loss;
    fmt::print(
        "| {} | {} | {} | {:.1f} | {:.0f} | {:.1f} % | {:.1f} | {:.1f} | {:.3f}, {:.3f} |{}\n",
        window, line, segments.size(), found.seconds * 1e3, rate, 100 * rate / first_rate,
        rate * flops_a_token(model) / 1e12, found.activation_bytes / (1 << 30), found.first_loss,
        found.last_loss, fine ? "" : " WRONG");
    std::fflush(stdout);
    right = right && fine;
  }
  return right;
}

bool measure(const benchmark::Options& options) {
  const std::string precision = options.text("precision", "bf16");
  Setting setting{.model = {.vocabulary = options.number("vocabulary", 50'304, 50),
                            .width = options.number("width", 768, 32),
                            .layers = options.number("layers", 12, 2),
                            .heads = options.number("heads", 12, 2)},
                  .line = options.number("line", 131'072, 64),
                  .segment = options.number("segment", 131'072, 128),
                  .steps = options.number("steps", 6, 2)};
  setting.model.hidden = 4 * setting.model.width;
  setting.model.attention.kind = benchmark::kinds_named(options.text("kind", "elu1")).front();
  setting.model.dtype = precision == "bf16" ? DType::bf16 : DType::f32;
  Device device = Device::cuda(0, {.tf32 = precision == "tf32"});
  return measure_windows(device, setting, options.number("shortest", 1024, 16),
                         options.number("longest", 1 << 20, 256));
}

}  // namespace

int main(int argc, char** argv) {
  return benchmark::run_benchmark(argc, argv, measure);
}

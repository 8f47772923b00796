// What the ranks send each other, and how long that takes.
//
//   benchmark_exchange [--repeats=200 --tokens=1048576]             ranks as threads, 2 and 4
//   mpirun -n 4 benchmark_exchange [...]                            ranks as processes
//
// First the state exchange and the gradient sum alone, then a whole model's forward and backward
// over a short and a long line. Fails when a state or a sum is wrong, or when a rank has sent
// anything but heads * features * (value_dim + 1) floats a layer and direction.
#include <array>

#include "benchmarks/measure.h"
#include "dist/gradient_sum.h"
#include "dist/mpi_communicator.h"
#include "dist/state_exchange.h"
#include "dist/thread_communicator.h"
#include "model/transformer.h"

namespace {

using namespace longscan;
using benchmark::median;
using benchmark::number_option;
using benchmark::seconds_of;

struct Options {
  int repeats;
  std::int64_t tokens;
};

// Numbers found wrong, over all ranks.
std::int64_t over_ranks(Communicator& group, std::int64_t wrong) {
  group.all_reduce_sum(Tensor::dense(&wrong, DType::i64, {1}));
  return wrong;
}

template <class... Arguments>
void print_on_first(const Communicator& group, fmt::format_string<Arguments...> format,
                    Arguments&&... arguments) {
  if (group.rank() == 0) fmt::print(format, std::forward<Arguments>(arguments)...);
}

// One document over all ranks; rank r's state is r + 1 everywhere, so what comes before it is
// known.
std::int64_t measure_exchange(Communicator& group, const Options& options, std::int64_t heads,
                              std::int64_t features, std::int64_t value_dim) {
  const std::int64_t count = heads * features * (value_dim + 1);
  const std::int64_t bytes = count * std::int64_t{sizeof(float)};
  Device device = Device::cpu(1);
  const SegmentBorders borders(
      std::vector<ShardBorders>(static_cast<std::size_t>(group.size()), {.tokens = 1}), false,
      false);
  std::vector<float> sum(static_cast<std::size_t>(count), static_cast<float>(group.rank() + 1));
  std::vector<float> before(sum.size());
  const auto tensor = [&](std::vector<float>& numbers) {
    return Tensor::dense(numbers.data(), DType::f32, {heads, features, value_dim + 1});
  };
  StateExchange exchange(group, device);
  std::vector<double> seconds;
  const Traffic traffic = group.traffic();
  std::int64_t wrong = 0;
  for (int i = 0; i < options.repeats; ++i) {
    seconds.push_back(seconds_of([&] {
      exchange.start(Direction::forward, borders, tensor(sum));
      exchange.finish(tensor(before), {}, {});
    }));
    const auto expected = static_cast<float>(group.rank() * (group.rank() + 1) / 2);
    wrong += std::count_if(before.begin(), before.end(), [&](float x) { return x != expected; });
  }
  wrong += group.traffic().bytes - traffic.bytes != bytes * options.repeats;
  wrong = over_ranks(group, wrong);
  const double time = median(seconds);
  print_on_first(group, "{:>5} {:>8} {:>9} {:>12} {:>10.1f} {:>10.1f} {:>6}\n", heads, features,
                 value_dim, bytes, time * 1e6,
                 static_cast<double>((group.size() - 1) * bytes) / time / 1e6, wrong);
  return wrong;
}

std::int64_t measure_gradient_sum(Communicator& group, std::int64_t count) {
  std::vector<float> gradient(static_cast<std::size_t>(count));
  std::vector<double> totals(3);
  std::vector<double> seconds;
  std::int64_t wrong = 0;
  for (int i = 0; i < 5; ++i) {
    std::fill(gradient.begin(), gradient.end(), static_cast<float>(group.rank() + 1));
    group.barrier();
    seconds.push_back(seconds_of([&] {
      sum_gradient(group, Tensor::dense(gradient.data(), DType::f32, {count}),
                   Tensor::dense(totals.data(), DType::f64, {std::ssize(totals)}));
    }));
    const auto expected = static_cast<float>(group.size() * (group.size() + 1) / 2);
    wrong +=
        std::count_if(gradient.begin(), gradient.end(), [&](float x) { return x != expected; });
  }
  wrong = over_ranks(group, wrong);
  const double time = median(seconds);
  print_on_first(group, "{:>13} {:>10.3f} {:>10.1f} {:>6}\n", count, time * 1e3,
                 static_cast<double>(4 * count) / time / 1e6, wrong);
  return wrong;
}

// A line of one document; this rank's tokens of it.
class ShardOfLine {
 public:
  ShardOfLine(const Communicator& group, std::int64_t tokens, std::int64_t vocabulary)
      : begin_(tokens * group.rank() / group.size()) {
    const std::int64_t end = tokens * (group.rank() + 1) / group.size();
    for (std::int64_t i = begin_; i < end; ++i) {
      tokens_.push_back(static_cast<std::int32_t>(i * 7 % vocabulary));
      targets_.push_back(static_cast<std::int32_t>((i + 1) * 7 % vocabulary));
      positions_.push_back(i);
    }
    if (group.rank() == 0) starts_.push_back(0);
  }

  Shard shard() const {
    return {.tokens = tokens_,
            .targets = targets_,
            .positions = positions_,
            .document_starts = starts_,
            .first_token = begin_};
  }

 private:
  std::int64_t begin_;
  std::vector<std::int32_t> tokens_, targets_;
  std::vector<std::int64_t> positions_, starts_;
};

// Narrow, so that a million tokens fit into memory in one segment.
ModelOptions narrow_model() {
  ModelOptions model;
  model.vocabulary = 32;
  model.width = 16;
  model.layers = 3;
  model.heads = 2;
  model.hidden = 16;
  return model;
}

std::int64_t check_model(Communicator& group, std::int64_t tokens) {
  const ModelOptions model = narrow_model();
  Device device = Device::cpu(1);
  Parameters parameters(model, device);
  Parameters gradient(model, device);
  parameters.initialize(1);
  Transformer transformer(model, device, group);
  const ShardOfLine line(group, tokens, model.vocabulary);
  const Shard shard = line.shard();
  std::vector<double> totals(3);

  const Traffic before = group.traffic();
  const double seconds = seconds_of([&] {
    transformer.train(parameters.weights(), gradient.weights(),
                      Tensor::dense(totals.data(), DType::f64, {std::ssize(totals)}), {&shard, 1},
                      {});
  });
  const std::int64_t bytes = group.traffic().bytes - before.bytes;
  const double waited = group.traffic().seconds - before.seconds;
  // A layer sends its state forward and its gradient backward; the borders of a shard are a number.
  const std::int64_t floats = model.state_size(0) * model.layers * 2;
  const std::int64_t expected =
      floats * std::int64_t{sizeof(float)} + std::int64_t{sizeof(std::int64_t)};
  const std::int64_t wrong = over_ranks(group, bytes == expected ? 0 : 1);
  print_on_first(group, "{:>9} {:>12} {:>12} {:>9.3f} {:>14.2f} {:>6}\n", tokens, bytes, expected,
                 seconds, 100 * waited / seconds, wrong);
  return wrong;
}

std::int64_t measure(Communicator& group, const Options& options, const char* transport) {
  std::int64_t wrong = 0;
  const double peak = group.rank() == 0 ? benchmark::copy_peak() : 0;
  print_on_first(group, "\npeak (one thread copies 64 MiB) {:.0f} MB/s\n", peak / 1e6);
  print_on_first(group, "\n{} ranks as {}\n\nState exchange, one layer, one direction\n",
                 group.size(), transport);
  print_on_first(group, "{:>5} {:>8} {:>9} {:>12} {:>10} {:>10} {:>6}\n", "heads", "features",
                 "value_dim", "bytes a rank", "us", "MB/s in", "wrong");
  for (const auto& [heads, features, value_dim] :
       {std::array{1, 16, 16}, {2, 33, 43}, {4, 64, 64}, {8, 64, 64}, {16, 128, 128}}) {
    wrong += measure_exchange(group, options, heads, features, value_dim);
  }
  print_on_first(group, "\nGradient sum, fp32\n{:>13} {:>10} {:>10} {:>6}\n", "elements", "ms",
                 "MB/s", "wrong");
  for (const std::int64_t count : {1'000, 1'000'000, 16'000'000}) {
    wrong += measure_gradient_sum(group, count);
  }
  const ModelOptions model = narrow_model();
  print_on_first(group,
                 "\nForward and backward of a model: {} layers, {} heads, {} features, value_dim "
                 "{}\n{:>9} {:>12} {:>12} {:>9} {:>14} {:>6}\n",
                 model.layers, model.heads, model.state_shape(0).rows, model.head_dim(), "tokens",
                 "bytes a rank", "expected", "seconds", "% in exchanges", "wrong");
  for (const std::int64_t tokens : {std::int64_t{4096}, options.tokens}) {
    wrong += check_model(group, tokens);
  }
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  const MpiEnvironment environment(&argc, &argv);
  const Options options = {.repeats = static_cast<int>(number_option(argc, argv, "repeats", 200)),
                           .tokens = number_option(argc, argv, "tokens", 1'048'576)};
  MpiCommunicator world(MPI_COMM_WORLD);
  std::int64_t wrong = 0;
  if (world.size() > 1) {
    wrong = measure(world, options, "processes");
  } else {
    for (const int ranks : {2, 4}) {
      run_ranks(ranks, [&](Communicator& group) {
        const std::int64_t found = measure(group, options, "threads");
        if (group.rank() == 0) wrong += found;
      });
    }
  }
  print_on_first(world, "\n{}\n", wrong == 0 ? "all numbers right" : "WRONG NUMBERS");
  return wrong == 0 ? 0 : 1;
}

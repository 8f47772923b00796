// The estimate of activations follows the order in which model/transformer.cpp and the layers take
// them from the arena.
#include "launch/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/buffer.h"
#include "kernels/linear.h"
#include "kernels/linear_attention.h"
#include "model/parameters.h"
#include "model/transformer.h"

namespace longscan {

namespace {

constexpr std::int64_t ceiling(std::int64_t count, std::int64_t parts) {
  return (count + parts - 1) / parts;
}

std::int64_t up_columns(const ModelOptions& model) {
  return (model.mlp == MlpKind::swiglu ? 2 : 1) * model.hidden;
}

std::int64_t count_layers(const ModelOptions& model, AttentionKind kind) {
  std::int64_t count = 0;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    count += model.attention_of(layer).kind == kind ? 1 : 0;
  }
  return count;
}

/// Numbers a token that forward, of a branch or of all, leaves to its backward, and that backward
/// needs beside them.
struct Activations {
  std::int64_t kept = 0;
  std::int64_t backward = 0;
};

Activations attention_activations(const ModelOptions& model, std::int64_t layer) {
  const bool identity = model.attention_of(layer).kind == AttentionKind::identity;
  const std::int64_t attended = identity ? 0 : model.width + model.heads;
  return {.kept = (model.width + 2) + 3 * model.width + attended + model.width,
          .backward = 5 * model.width};
}

Activations mlp_activations(const ModelOptions& model) {
  const std::int64_t gates = model.mlp == MlpKind::swiglu ? up_columns(model) : 0;
  return {.kept = (model.width + 2) + up_columns(model) + model.hidden + model.width,
          .backward = model.hidden + gates + model.width};
}

/// Of all layers: beside what stays, the most that one branch's backward needs.
Activations activations_of_layers(const ModelOptions& model) {
  const Activations mlp = mlp_activations(model);
  std::int64_t kept = 0;
  std::int64_t backward = mlp.backward;
  std::int64_t branch = mlp.kept + mlp.backward;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    const Activations attention = attention_activations(model, layer);
    kept += attention.kept + mlp.kept;
    backward = std::max(backward, attention.backward);
    branch = std::max(branch, attention.kept + attention.backward);
  }
  // Reversible layers have a second stream and its gradient, and one branch at a time.
  if (model.reversible) return {.kept = 2 * model.width, .backward = branch};
  return {.kept = kept, .backward = backward};
}

/// Of a whole pass.
Activations activations_of_pass(const ModelOptions& model) {
  Activations numbers = activations_of_layers(model);
  numbers.kept += 3 * model.width + (model.width + 2) + model.head_dim();
  if (model.dropout > 0) numbers.kept += model.width;
  return numbers;
}

constexpr std::int64_t kTokenBytes = 16;  // token, target, position

/// Numbers of the states that linear attention on a GPU leaves to backward.
std::int64_t checkpoint_numbers(const ModelOptions& model, std::int64_t tokens) {
  if (!model.causal) return 0;
  std::int64_t numbers = 0;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    if (!is_linear(model.attention_of(layer).kind)) continue;
    // Reversible layers keep those of one at a time.
    numbers = model.reversible ? std::max(numbers, model.state_size(layer))
                               : numbers + model.state_size(layer);
  }
  return checkpoints_of(tokens) * numbers;
}

/// Bytes of the arena. Backward of the layers begins where the logits have gone.
std::int64_t activation_bytes(const ModelOptions& model, const Layout& layout,
                              const Device& device) {
  const std::int64_t number = size_of(model.dtype);
  const std::int64_t tokens = layout.tokens_at_once;
  const Activations numbers = activations_of_pass(model);
  const std::int64_t logits =
      std::min(tokens, Transformer::tokens_with_logits(model, device)) * model.vocabulary;
  const std::int64_t taken =
      (tokens * numbers.kept + std::max(tokens * numbers.backward, logits)) * number;
  if (device.on_host()) return taken;
  return taken + tokens * kTokenBytes +
         checkpoint_numbers(model, tokens) * size_of(sum_type(model.dtype));
}

/// States that linear attention on a GPU has beside each other at most: some of every piece of the
/// line, which are so many that they fill the GPU (kernels/cuda/linear_attention.cu).
std::int64_t states_of_pieces(const ModelOptions& model, std::int64_t tokens,
                              const Device& device) {
  const auto pieces = [&](std::int64_t grain) {
    const std::int64_t grains = ceiling(tokens, grain);
    const std::int64_t wanted = ceiling(2 * device.multiprocessors(), model.heads);
    return std::min(grains, wanted);
  };
  constexpr std::int64_t kShortestPiece = 128;
  if (!model.causal) return 4 * pieces(kShortestPiece);
  return std::max(2 * pieces(kShortestPiece), 3 * pieces(kCheckpointTokens));
}

/// Bytes that one operation at a time works in, on GPUs: tokens in the order of their entries of
/// the embedding with the parts of its gradient (kernels/cuda/embedding.cu), or states of pieces.
std::int64_t scratch_bytes(const ModelOptions& model, const Layout& layout, const Device& device) {
  if (device.on_host()) return 0;
  constexpr std::int64_t kSortedBytes = 2 * 16;
  constexpr std::int64_t kMostParts = 4096;
  const std::int64_t tokens = layout.tokens_at_once;
  const std::int64_t parts = std::min(ceiling(tokens, 16), kMostParts);
  std::int64_t most = tokens * kSortedBytes + parts * model.width * size_of(DType::f32);
  const std::int64_t states = states_of_pieces(model, tokens, device);
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    if (!is_linear(model.attention_of(layer).kind)) continue;
    most = std::max(most, states * model.state_size(layer) * size_of(DType::f32));
  }
  return most;
}

/// Numbers a token of the shards that come by: two at a time, with keys and values, and with
/// queries and what their outputs hand back, in each direction in which they have to go.
std::int64_t visiting_per_token(const ModelOptions& model) {
  const bool has_softmax = count_layers(model, AttentionKind::softmax) > 0;
  return has_softmax ? 2 * (2 + 2) * model.width * (model.causal ? 1 : 2) : 0;
}

/// Bytes of shards that one rank sends on in a layer with exact softmax, where documents are
/// `window` tokens long: those of the rank that has most to send.
std::int64_t shards_sent(const ModelOptions& model, const Layout& layout) {
  const std::int64_t ranks = layout.sequence_ranks;
  const std::int64_t hops = std::min(ranks - 1, ceiling(layout.window, layout.tokens_at_once));
  const std::int64_t number = size_of(model.dtype);
  const std::int64_t sum = size_of(sum_type(model.dtype));
  const std::int64_t document = size_of(DType::i64);
  const std::int64_t keys = 2 * model.width * number + document;
  const std::int64_t queries = 2 * model.width * number + 2 * model.heads * sum + document;
  std::int64_t most = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const std::int64_t up = rank + 1 < ranks ? std::min(rank + 1, hops) : 0;
    const std::int64_t down = rank > 0 ? std::min(ranks - rank, hops) : 0;
    // Keys forward and backward, queries backward: down where keys go up. Reversible layers go
    // forward twice.
    const std::int64_t of_keys = (model.reversible ? 3 : 2) * keys;
    const std::int64_t bytes =
        model.causal ? of_keys * up + queries * down : (of_keys + queries) * (up + down);
    most = std::max(most, bytes);
  }
  return most * layout.tokens_at_once;
}

/// Numbers of the projected keys and values that linformer's layers keep of a document.
std::int64_t projected_per_document(const ModelOptions& model) {
  std::int64_t numbers = 0;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    if (model.attention_of(layer).kind != AttentionKind::linformer) continue;
    // Reversible layers keep one at a time.
    numbers = model.reversible ? std::max(numbers, model.state_size(layer))
                               : numbers + model.state_size(layer);
  }
  return numbers;
}

/// Numbers of the states of all layers.
std::int64_t state_numbers(const ModelOptions& model) {
  std::int64_t numbers = 0;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) numbers += model.state_size(layer);
  return numbers;
}

std::int64_t largest_state(const ModelOptions& model) {
  std::int64_t largest = 0;
  for (std::int64_t layer = 0; layer < model.layers; ++layer) {
    largest = std::max(largest, model.state_size(layer));
  }
  return largest;
}

/// Forward and backward, a token. Every product of forward has two of the same size in backward,
/// but for random projections, which are not learned.
double attention_flops(const ModelOptions& model, std::int64_t layer, std::int64_t document) {
  const AttentionOptions& attention = model.attention_of(layer);
  const auto width = static_cast<double>(model.width);
  if (attention.kind == AttentionKind::softmax) {
    const double seen = static_cast<double>(document) / (model.causal ? 2 : 1);
    return 3 * 4 * width * seen;
  }
  const double projections =
      is_favor(attention.kind) ? 2 * 4 * width * static_cast<double>(attention.features) : 0;
  // Once into the state and once out of it.
  return projections + 3 * 4 * static_cast<double>(model.state_size(layer));
}

}  // namespace

double flops_per_token(const ModelOptions& model, std::int64_t document) {
  const auto width = static_cast<double>(model.width);
  const double layer = 4 * width * width + width * static_cast<double>(up_columns(model)) +
                       width * static_cast<double>(model.hidden);
  const double weights =
      static_cast<double>(model.layers) * layer + width * static_cast<double>(model.vocabulary);
  double attention = 0;
  for (std::int64_t i = 0; i < model.layers; ++i) attention += attention_flops(model, i, document);
  return 6 * weights + attention;
}

Layout layout_of(const config::Config& configuration, std::int64_t sequence_ranks,
                 std::int64_t ranks) {
  const std::int64_t groups = ranks / sequence_ranks;
  Layout layout;
  layout.window = configuration.data().window();
  layout.line_tokens =
      ceiling(configuration.data().batch(), groups) * configuration.data().window();
  const std::int64_t segment =
      configuration.training().segment() > 0
          ? std::min(configuration.training().segment(), layout.line_tokens)
          : layout.line_tokens;
  layout.segments = ceiling(layout.line_tokens, segment);
  layout.tokens_at_once = ceiling(segment, sequence_ranks);
  layout.sequence_ranks = sequence_ranks;
  layout.ranks = ranks;
  layout.accumulation = configuration.optimizer().accumulation();
  return layout;
}

MemoryEstimate memory_of(const ModelOptions& model, const Layout& layout, const Device& device) {
  const std::int64_t number = size_of(model.dtype);
  const std::int64_t sum = size_of(sum_type(model.dtype));
  const std::int64_t parameters = count_parameters(model) * sum;
  // Of matrices, which are nearly all.
  const std::int64_t rounded = number == sum ? 0 : count_parameters(model) * number;
  const bool shared = layout.sequence_ranks > 1;
  const std::int64_t gathered = shared ? layout.sequence_ranks : 0;
  const std::int64_t kept_states = layout.segments + (model.causal ? 2 : 3);
  const std::int64_t visiting =
      shared ? layout.tokens_at_once * visiting_per_token(model) * number : 0;
  // Of the documents that two ranks share, both keep what Linformer projects.
  const std::int64_t documents = ceiling(layout.tokens_at_once, layout.window) + (shared ? 1 : 0);
  return {.parameters = parameters + rounded,
          .gradients = parameters,
          .moments = 2 * parameters,
          .activations = activation_bytes(model, layout, device) + visiting +
                         documents * projected_per_document(model) * sum,
          .states = (kept_states * state_numbers(model) + gathered * largest_state(model)) * sum,
          .scratch = scratch_bytes(model, layout, device),
          .tokens = layout.segments * layout.tokens_at_once * kTokenBytes};
}

ExchangeEstimate exchange_of(const ModelOptions& model, const Layout& layout) {
  // Forward one way and backward the other; where attention is not causal, both ways each time.
  const std::int64_t directions = model.causal ? 2 : 4;
  const std::int64_t sum = size_of(sum_type(model.dtype));
  ExchangeEstimate bytes;
  if (layout.sequence_ranks > 1) {
    bytes.states = layout.accumulation * directions * layout.segments * state_numbers(model) * sum;
    bytes.keys_values = layout.accumulation * count_layers(model, AttentionKind::softmax) *
                        shards_sent(model, layout);
  }
  if (layout.ranks > 1) bytes.gradients = count_parameters(model) * sum;
  return bytes;
}

double measure_peak(Device& device, DType dtype) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kLargest = 8192;
  constexpr double kLongEnough = 2e-3;  // beside which starting a product costs nothing
  constexpr double kSeconds = 0.2;
  std::int64_t size = 1024;
  Buffer memory;  // zeros: a product takes as long as with other numbers
  const auto seconds_of_product = [&] {
    const Tensor all = Tensor::dense(memory.data(), dtype, {3, size, size});
    const Clock::time_point begin = Clock::now();
    device.run(MatMul{.out = all.at(0), .a = all.at(1), .b = all.at(2)});
    device.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  const auto make_room = [&] {
    memory = device.allocate(3 * size * size * size_of(dtype));
    seconds_of_product();  // the first one prepares the others
  };
  make_room();
  while (size < kLargest && seconds_of_product() < kLongEnough) {
    size *= 2;
    make_room();
  }
  const double flops = 2.0 * std::pow(static_cast<double>(size), 3);
  double best = 0;
  for (double spent = 0; spent < kSeconds;) {
    const double seconds = seconds_of_product();
    best = std::max(best, flops / seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace longscan

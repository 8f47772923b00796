// The estimate of activations follows the order in which model/transformer.cpp takes them from its
// arena.
#include "launch/estimate.h"

#include <algorithm>
#include <chrono>

#include "kernels/buffer.h"
#include "kernels/linear.h"
#include "kernels/linear_attention.h"
#include "model/parameters.h"

namespace longscan {

namespace {

constexpr std::int64_t ceiling(std::int64_t count, std::int64_t parts) {
  return (count + parts - 1) / parts;
}

std::int64_t up_columns(const ModelOptions& model) {
  return (model.mlp == MlpKind::swiglu ? 2 : 1) * model.hidden;
}

/// Numbers a token that stay from forward to backward, and the most that one layer's backward needs
/// beside them.
std::int64_t activations_per_token(const ModelOptions& model) {
  const std::int64_t norm = model.width + 2;
  const std::int64_t attention = norm + 5 * model.width + model.heads;
  const std::int64_t mlp = norm + up_columns(model) + model.hidden + model.width;
  const std::int64_t ends = 3 * model.width + norm + model.head_dim();
  const std::int64_t dropped = model.dropout > 0 ? model.width : 0;
  const std::int64_t attention_backward = 5 * model.width;
  const std::int64_t mlp_backward = model.hidden + up_columns(model) + model.width;
  return model.layers * (attention + mlp) + ends + dropped +
         std::max(attention_backward, mlp_backward);
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

}  // namespace

double flops_per_token(const ModelOptions& model) {
  const auto width = static_cast<double>(model.width);
  const double layer = 4 * width * width + width * static_cast<double>(up_columns(model)) +
                       width * static_cast<double>(model.hidden);
  const double weights =
      static_cast<double>(model.layers) * layer + width * static_cast<double>(model.vocabulary);
  return 6 * weights + 12 * static_cast<double>(state_numbers(model));
}

Layout layout_of(const config::Config& configuration, std::int64_t sequence_ranks,
                 std::int64_t ranks) {
  const std::int64_t groups = ranks / sequence_ranks;
  Layout layout;
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

MemoryEstimate memory_of(const ModelOptions& model, const Layout& layout) {
  const std::int64_t number = size_of(model.dtype);
  const std::int64_t parameters = count_parameters(model) * number;
  const std::int64_t gathered = layout.sequence_ranks > 1 ? layout.sequence_ranks : 0;
  constexpr std::int64_t kTokenBytes = 16;  // token, target, position
  return {
      .parameters = parameters,
      .gradients = parameters,
      .moments = 2 * parameters,
      .activations = layout.tokens_at_once * activations_per_token(model) * number,
      .states =
          ((layout.segments + 2) * state_numbers(model) + gathered * largest_state(model)) * number,
      .tokens = layout.segments * layout.tokens_at_once * kTokenBytes};
}

ExchangeEstimate exchange_of(const ModelOptions& model, const Layout& layout) {
  constexpr std::int64_t kDirections = 2;
  const std::int64_t number = size_of(model.dtype);
  ExchangeEstimate bytes;
  if (layout.sequence_ranks > 1) {
    bytes.states =
        layout.accumulation * kDirections * layout.segments * state_numbers(model) * number;
  }
  if (layout.ranks > 1) bytes.gradients = count_parameters(model) * number;
  return bytes;
}

double measure_peak(Device& device) {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kSize = 1024;
  constexpr double kFlops = 2.0 * kSize * kSize * kSize;
  constexpr double kSeconds = 0.2;
  const Buffer memory = device.allocate(3 * kSize * kSize * size_of(DType::f32));
  const Tensor all = Tensor::dense(memory.data(), DType::f32, {3, kSize, kSize});
  // Zeros: a product takes as long as with other numbers.
  const MatMul product{.out = all.at(0), .a = all.at(1), .b = all.at(2)};
  device.run(product);
  double best = 0;
  double spent = 0;
  while (spent < kSeconds) {
    const Clock::time_point begin = Clock::now();
    device.run(product);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    best = std::max(best, kFlops / seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace longscan

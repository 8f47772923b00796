// Operands of every kind of attention and the order of its operations.
#include "benchmarks/attention_call.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/bfloat16.h"
#include "kernels/elementwise.h"
#include "kernels/random.h"

namespace longscan::benchmark {

namespace {

// Drawing a number takes longer than attending with it, so tensors repeat this many.
constexpr std::int64_t kDrawn = 65'521;

template <class T>
void upload_repeated(Device& device, const Tensor& tensor, const std::vector<float>& drawn) {
  std::vector<T> numbers(static_cast<std::size_t>(tensor.size()));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<T>(drawn[i % drawn.size()]);
  }
  device.upload(tensor, numbers.data());
}

// Normal numbers times `scale`, such as all types hold exactly.
void fill(Device& device, const Tensor& tensor, std::uint64_t step, double scale = 1) {
  std::vector<float> drawn(static_cast<std::size_t>(std::min(kDrawn, tensor.size())));
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const double number = scale * random_normal({1, RandomPurpose::sample, step}, i);
    drawn[i] = static_cast<float>(Bfloat16(static_cast<float>(number)));
  }
  switch (tensor.dtype) {
    case DType::f32:
      return upload_repeated<float>(device, tensor, drawn);
    case DType::bf16:
      return upload_repeated<Bfloat16>(device, tensor, drawn);
    default:
      return upload_repeated<double>(device, tensor, drawn);
  }
}

FeatureKind feature_kind_of(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::relu:
      return FeatureKind::relu;
    case AttentionKind::favor_softmax:
      return FeatureKind::favor_softmax;
    case AttentionKind::favor_hyperbolic:
      return FeatureKind::favor_hyperbolic;
    case AttentionKind::favor_relu:
      return FeatureKind::favor_relu;
    default:
      return FeatureKind::elu1;
  }
}

double number_at(const Tensor& tensor, std::int64_t row, std::int64_t column) {
  const std::int64_t index = row * tensor.stride[0] + column;
  return tensor.dtype == DType::f64 ? tensor.as<double>()[index] : tensor.as<float>()[index];
}

// What a result is off, and what it should be: the largest numbers, and the sums of squares.
struct Difference {
  double largest = 0;
  double largest_truth = 0;
  double squares = 0;
  double squares_truth = 0;
};

Difference difference_of(const Tensor& got, const Tensor& truth) {
  const std::int64_t columns = truth.size() / truth.shape[0];
  Difference found;
  for (std::int64_t row = 0; row < truth.shape[0]; ++row) {
    for (std::int64_t i = 0; i < columns; ++i) {
      const double expected = number_at(truth, row, i);
      const double error = std::abs(number_at(got, row, i) - expected);
      if (!(error <= found.largest)) found.largest = error;  // NaN is the largest
      found.largest_truth = std::max(found.largest_truth, std::abs(expected));
      found.squares += error * error;
      found.squares_truth += expected * expected;
    }
  }
  return found;
}

}  // namespace

AttentionCall::AttentionCall(Device& device, DType dtype, const CallShape& shape)
    : device_(device), shape_(shape) {
  const std::int64_t tokens = shape.tokens, width = shape.heads * shape.dim;
  const Tensor joint = memory_.take(dtype, {tokens, 3 * width});
  d_joint_ = memory_.take(dtype, {tokens, 3 * width});
  query_ = part(joint, 0), key_ = part(joint, 1), value_ = part(joint, 2);
  d_query_ = part(d_joint_, 0), d_key_ = part(d_joint_, 1), d_value_ = part(d_joint_, 2);
  out_ = memory_.take(dtype, {tokens, shape.heads, shape.dim});
  d_out_ = memory_.take(dtype, {tokens, shape.heads, shape.dim});
  normalizer_ = memory_.take(sum_type(dtype), {tokens, shape.heads});
  fill(device, joint, 0), fill(device, d_out_, 1);
  if (is_favor(shape.options.kind)) {
    features_ = memory_.take(dtype, {shape.options.features, shape.dim});
    fill(device, features_, 2);
  }
  if (is_linear(shape.options.kind) && shape.causal && !device.on_host()) {
    const FeatureMap map = linear().feature_map;
    checkpoints_ =
        memory_.take(DType::f32, {checkpoints_of(tokens) * shape.heads, map.features(shape.dim),
                                  map.state_columns(shape.dim)});
  }
  if (shape.options.kind == AttentionKind::linformer) {
    const std::int64_t length = shape.options.projected_length;
    position_ = memory_.take(DType::i64, {tokens});
    std::vector<std::int64_t> positions(static_cast<std::size_t>(tokens));
    std::iota(positions.begin(), positions.end(), 0);
    device.upload(position_, positions.data());
    for (int i = 0; i < 2; ++i) {
      projection_[i] = memory_.take(dtype, {length, tokens});
      d_projection_[i] = memory_.take(sum_type(dtype), {length, tokens});
      fill(device, projection_[i], 2 + static_cast<std::uint64_t>(i),
           1 / std::sqrt(static_cast<double>(tokens)));
    }
    projected_ = memory_.take(sum_type(dtype), {shape.heads, length, 2 * shape.dim});
    d_projected_ = memory_.take(sum_type(dtype), {shape.heads, length, 2 * shape.dim});
  }
  if (shape.options.kind == AttentionKind::softmax) {
    document_ = memory_.take(DType::i64, {tokens});
    const std::vector<std::int64_t> documents(static_cast<std::size_t>(tokens), 0);
    device.upload(document_, documents.data());
    d_out_dot_ = memory_.take(sum_type(dtype), {tokens, shape.heads});
  }
}

Tensor AttentionCall::part(const Tensor& joint, std::int64_t index) const {
  const std::int64_t width = shape_.heads * shape_.dim;
  return joint.columns(index * width, (index + 1) * width).split_heads(shape_.heads);
}

void AttentionCall::forward() {
  switch (shape_.options.kind) {
    case AttentionKind::identity:
      return device_.run(Copy{.out = out_, .in = value_});
    case AttentionKind::linformer:
      device_.run(LinformerProject{.projected = projected_, .keys = keys()});
      return device_.run(
          LinformerAttend{.out = out_, .log_sum = normalizer_, .queries = queries()});
    case AttentionKind::softmax:
      return softmax_forward();
    default:
      return device_.run(LinearAttention{
          .out = out_, .normalizer = normalizer_, .input = linear(), .checkpoints = checkpoints_});
  }
}

void AttentionCall::backward() {
  switch (shape_.options.kind) {
    case AttentionKind::identity:
      return device_.run(Copy{.out = d_value_, .in = d_out_});
    case AttentionKind::linformer:
      return linformer_backward();
    case AttentionKind::softmax:
      return softmax_backward();
    default:
      return linear_backward();
  }
}

LinearAttentionInput AttentionCall::linear() const {
  return {.query = query_,
          .key = key_,
          .value = value_,
          .feature_map = {.kind = feature_kind_of(shape_.options.kind), .projection = features_},
          .causal = shape_.causal};
}

void AttentionCall::linear_backward() {
  device_.run(LinearAttentionBackward{.d_query = d_query_,
                                      .d_key = d_key_,
                                      .d_value = d_value_,
                                      .input = linear(),
                                      .gradient = {d_out_, out_, normalizer_},
                                      .checkpoints = checkpoints_});
}

LinformerKeys AttentionCall::keys() const {
  return {.key = key_,
          .value = value_,
          .key_projection = projection_[0],
          .value_projection = projection_[1],
          .position = position_};
}

LinformerQueries AttentionCall::queries() const {
  return {.query = query_, .projected = projected_};
}

void AttentionCall::linformer_backward() {
  const LinformerGradient gradient{d_out_, out_, normalizer_};
  device_.run(LinformerBackwardProjected{
      .d_projected = d_projected_, .queries = queries(), .gradient = gradient});
  device_.run(
      LinformerBackwardQuery{.d_query = d_query_, .queries = queries(), .gradient = gradient});
  device_.run(LinformerBackwardKeys{.d_key = d_key_,
                                    .d_value = d_value_,
                                    .d_key_projection = d_projection_[0],
                                    .d_value_projection = d_projection_[1],
                                    .keys = keys(),
                                    .d_projected = d_projected_});
}

SoftmaxKeys AttentionCall::softmax_keys() const {
  return {.key = key_, .value = value_, .block = {.document = document_}};
}

SoftmaxQueries AttentionCall::softmax_queries() const {
  return {.query = query_, .block = {.document = document_}};
}

// The operations of softmax add to what they find.
void AttentionCall::softmax_forward() {
  const double nothing = -std::numeric_limits<double>::infinity();
  device_.run(Fill{.out = normalizer_.reshaped({normalizer_.size()}), .value = nothing});
  device_.run(SoftmaxAttention{.out = out_,
                               .log_sum = normalizer_,
                               .queries = softmax_queries(),
                               .keys = softmax_keys(),
                               .causal = shape_.causal});
}

void AttentionCall::softmax_backward() {
  device_.run(HeadDot{.dot = d_out_dot_, .a = d_out_, .b = out_});
  const SoftmaxGradient gradient{d_out_, normalizer_, d_out_dot_};
  device_.run(SoftmaxAttentionBackwardQuery{.d_query = d_query_,
                                            .queries = softmax_queries(),
                                            .keys = softmax_keys(),
                                            .gradient = gradient,
                                            .causal = shape_.causal});
  device_.run(SoftmaxAttentionBackwardKeyValue{.d_key = d_key_,
                                               .d_value = d_value_,
                                               .queries = softmax_queries(),
                                               .keys = softmax_keys(),
                                               .gradient = gradient,
                                               .causal = shape_.causal});
}

std::vector<Tensor> AttentionCall::results() {
  const Tensor out = copies_[0].of(device_, out_);
  const Tensor d_joint = copies_[1].of(device_, d_joint_);
  const Tensor d_query = part(d_joint, 0), d_key = part(d_joint, 1), d_value = part(d_joint, 2);
  switch (shape_.options.kind) {
    case AttentionKind::identity:
      return {out, d_value};
    case AttentionKind::linformer:
      return {out,
              d_query,
              d_key,
              d_value,
              copies_[2].of(device_, d_projection_[0]),
              copies_[3].of(device_, d_projection_[1])};
    default:
      return {out, d_query, d_key, d_value};
  }
}

CallError error_of(Device& device, DType dtype, const CallShape& shape, Device& cpu) {
  AttentionCall exact(cpu, DType::f64, shape);
  AttentionCall call(device, dtype, shape);
  exact.forward(), exact.backward();
  call.forward(), call.backward();
  const std::vector<Tensor> truth = exact.results();
  const std::vector<Tensor> got = call.results();
  CallError error;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const Difference found = difference_of(got[i], truth[i]);
    ResultError& worst = i == 0 ? error.out : error.gradients;
    const double largest = found.largest / found.largest_truth;
    const double mean = std::sqrt(found.squares / found.squares_truth);
    if (!(largest <= worst.largest)) worst.largest = largest;
    if (!(mean <= worst.mean)) worst.mean = mean;
  }
  return error;
}

}  // namespace longscan::benchmark

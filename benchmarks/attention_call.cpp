// Operands of every kind of attention and the order of its operations.
#include "benchmarks/attention_call.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/elementwise.h"
#include "kernels/random.h"

namespace longscan::benchmark {

namespace {

// Drawing a number takes longer than attending with it, so tensors repeat this many.
constexpr std::int64_t kDrawn = 65'521;

// Normal numbers that floats hold exactly, times `scale`.
void fill(const Tensor& tensor, std::uint64_t step, double scale = 1) {
  std::vector<float> drawn(static_cast<std::size_t>(std::min(kDrawn, tensor.size())));
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    drawn[i] = static_cast<float>(scale * random_normal({1, RandomPurpose::sample, step}, i));
  }
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    const float x = drawn[static_cast<std::size_t>(i % kDrawn)];
    tensor.dtype == DType::f32 ? tensor.as<float>()[i] = x : tensor.as<double>()[i] = x;
  }
}

// out = in, token after token: what attention costs at the least.
struct Copy {
  Tensor out;  // [tokens, heads, dim]; gaps between tokens are allowed
  Tensor in;
  void check() const {
    require_shape("Copy.out", out, {in.shape[0], in.shape[1], in.shape[2]});
    require_dtype("Copy.out", out, in.dtype);
  }
};

void execute(Cpu& cpu, const Copy& copy) {
  const std::int64_t size = size_of(copy.in.dtype);
  const std::int64_t bytes = copy.in.shape[1] * copy.in.shape[2] * size;
  cpu.for_blocks(copy.in.shape[0], 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      std::memcpy(copy.out.as<std::byte>() + token * copy.out.stride[0] * size,
                  copy.in.as<std::byte>() + token * copy.in.stride[0] * size,
                  static_cast<std::size_t>(bytes));
    }
  });
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

double difference_of(const Tensor& got, const Tensor& truth) {
  const std::int64_t columns = truth.size() / truth.shape[0];
  double largest = 0, worst = 0;
  for (std::int64_t row = 0; row < truth.shape[0]; ++row) {
    for (std::int64_t i = 0; i < columns; ++i) {
      const double expected = truth.as<double>()[row * truth.stride[0] + i];
      const double found = got.as<float>()[row * got.stride[0] + i];
      largest = std::max(largest, std::abs(expected));
      worst = std::max(worst, std::abs(found - expected));
      if (std::isnan(found)) return found;
    }
  }
  return worst / largest;
}

}  // namespace

AttentionCall::AttentionCall(Device& device, DType dtype, const CallShape& shape)
    : device_(device), shape_(shape) {
  const std::int64_t tokens = shape.tokens, width = shape.heads * shape.dim;
  const Tensor joint = memory_.take(dtype, {tokens, 3 * width});
  const Tensor d_joint = memory_.take(dtype, {tokens, 3 * width});
  const auto part = [&](const Tensor& from, std::int64_t index) {
    return from.columns(index * width, (index + 1) * width).split_heads(shape.heads);
  };
  query_ = part(joint, 0), key_ = part(joint, 1), value_ = part(joint, 2);
  d_query_ = part(d_joint, 0), d_key_ = part(d_joint, 1), d_value_ = part(d_joint, 2);
  out_ = memory_.take(dtype, {tokens, shape.heads, shape.dim});
  d_out_ = memory_.take(dtype, {tokens, shape.heads, shape.dim});
  normalizer_ = memory_.take(dtype, {tokens, shape.heads});
  fill(joint, 0), fill(d_out_, 1);
  if (is_favor(shape.options.kind)) {
    features_ = memory_.take(dtype, {shape.options.features, shape.dim});
    fill(features_, 2);
  }
  if (shape.options.kind == AttentionKind::linformer) {
    const std::int64_t length = shape.options.projected_length;
    position_ = memory_.take(DType::i64, {tokens});
    std::iota(position_.as<std::int64_t>(), position_.as<std::int64_t>() + tokens, 0);
    for (int i = 0; i < 2; ++i) {
      projection_[i] = memory_.take(dtype, {length, tokens});
      d_projection_[i] = memory_.take(dtype, {length, tokens});
      fill(projection_[i], 2 + static_cast<std::uint64_t>(i),
           1 / std::sqrt(static_cast<double>(tokens)));
    }
    projected_ = memory_.take(dtype, {shape.heads, length, 2 * shape.dim});
    d_projected_ = memory_.take(dtype, {shape.heads, length, 2 * shape.dim});
  }
  if (shape.options.kind == AttentionKind::softmax) {
    document_ = memory_.take(DType::i64, {tokens});
    std::fill_n(document_.as<std::int64_t>(), tokens, 0);
    d_out_dot_ = memory_.take(dtype, {tokens, shape.heads});
  }
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
      return device_.run(
          LinearAttention{.out = out_, .normalizer = normalizer_, .input = linear()});
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
  const LinearAttentionGradient gradient{d_out_, out_, normalizer_};
  device_.run(
      LinearAttentionBackwardQuery{.d_query = d_query_, .input = linear(), .gradient = gradient});
  device_.run(LinearAttentionBackwardKeyValue{
      .d_key = d_key_, .d_value = d_value_, .input = linear(), .gradient = gradient});
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

std::vector<Tensor> AttentionCall::results() const {
  switch (shape_.options.kind) {
    case AttentionKind::identity:
      return {out_, d_value_};
    case AttentionKind::linformer:
      return {out_, d_query_, d_key_, d_value_, d_projection_[0], d_projection_[1]};
    default:
      return {out_, d_query_, d_key_, d_value_};
  }
}

double error_of(Device& device, const CallShape& shape) {
  AttentionCall exact(device, DType::f64, shape);
  AttentionCall call(device, DType::f32, shape);
  exact.forward(), exact.backward();
  call.forward(), call.backward();
  const std::vector<Tensor> truth = exact.results();
  const std::vector<Tensor> got = call.results();
  double error = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const double found = difference_of(got[i], truth[i]);
    if (!(found <= error)) error = found;
  }
  return error;
}

}  // namespace longscan::benchmark

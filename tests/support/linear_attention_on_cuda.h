// Linear attention on a GPU with operands in host memory, in any type.
#pragma once

#include <vector>

#include "tests/support/linear_attention_case.h"
#include "tests/support/on_cuda.h"

namespace longscan::test {

/// The operands as the type holds them.
inline AttentionOperands rounded(AttentionOperands operands, DType dtype) {
  for (std::vector<double>* numbers :
       {&operands.query, &operands.key, &operands.value, &operands.d_out, &operands.projection}) {
    for (double& number : *numbers) {
      const auto single = static_cast<float>(number);
      number =
          static_cast<double>(dtype == DType::bf16 ? static_cast<float>(Bfloat16(single)) : single);
    }
  }
  return operands;
}

/// Tensors of one call, laid out as AttentionTensors has them.
class AttentionOnCuda {
 public:
  LinearAttentionInput input;
  bool leaves_checkpoints = false;

  AttentionOnCuda(Device& device, DType dtype, const AttentionOperands& o)
      : device_(device),
        dtype_(dtype),
        joint_(dtype, {o.shape.tokens, o.shape.heads * (2 * o.shape.dim + o.shape.value_dim)}),
        d_joint_(dtype, {o.shape.tokens, o.shape.heads * (2 * o.shape.dim + o.shape.value_dim)}),
        projection_(dtype, {o.projections, o.shape.dim}, o.projection),
        starts_(DType::i64, {std::ssize(o.shape.starts)}),
        attended_(DType::u8, {o.shape.tokens}),
        out_(dtype, {o.shape.tokens, o.shape.heads, o.shape.value_dim}),
        d_out_(dtype, {o.shape.tokens, o.shape.heads, o.shape.value_dim}, o.d_out),
        normalizer_(sum_type(dtype), {o.shape.tokens, o.shape.heads}),
        checkpoints_(DType::f32, {0}) {
    const AttentionShape& s = o.shape;
    for (std::int64_t i = 0; i < starts_.size(); ++i) starts_.set(i, double(s.starts[i]));
    for (std::int64_t i = 0; i < s.tokens; ++i) attended_.set(i, o.attended[i]);
    input = {.query = part(joint_, 0, s.heads, s.dim),
             .key = part(joint_, s.heads * s.dim, s.heads, s.dim),
             .value = part(joint_, 2 * s.heads * s.dim, s.heads, s.value_dim),
             .document_starts = starts_,
             .feature_map = {.kind = o.form.kind},
             .causal = o.form.causal};
    if (o.form.masked) input.key_mask = attended_;
    if (input.feature_map.has_projection()) input.feature_map.projection = projection_;
    const Tensor state = make_state().view();
    checkpoints_ = OwnedTensor(
        DType::f32, {checkpoints_of(s.tokens) * state.shape[0], state.shape[1], state.shape[2]});
    d_query_ = part(d_joint_, 0, s.heads, s.dim);
    d_key_ = part(d_joint_, s.heads * s.dim, s.heads, s.dim);
    d_value_ = part(d_joint_, 2 * s.heads * s.dim, s.heads, s.value_dim);
    const std::int64_t row = s.heads * (2 * s.dim + s.value_dim);
    for (std::int64_t token = 0; token < s.tokens; ++token) {
      std::int64_t at = token * row;
      for (const auto* numbers : {&o.query, &o.key, &o.value}) {
        const std::int64_t columns = std::ssize(*numbers) / s.tokens;
        for (std::int64_t i = 0; i < columns; ++i) {
          joint_.set(at++, (*numbers)[token * columns + i]);
        }
      }
    }
  }

  using State = std::vector<double>;

  /// Leaves checkpoints for the backward that follows where `leaves_checkpoints`.
  void forward(const State& before = {}, const State& behind = {}) {
    const OwnedTensor first = make_state(before), last = make_state(behind);
    on_cuda({&first, &last, &checkpoints_})
        .run(LinearAttention{.out = out_,
                             .normalizer = normalizer_,
                             .input = input,
                             .checkpoints = checkpoints(),
                             .state_before = present(first, before),
                             .state_behind = present(last, behind)});
  }
  /// Makes a checkpoint another one.
  void spoil_checkpoint(std::int64_t index) {
    const std::int64_t size = checkpoints_.size() / checkpoints_of(input.query.shape[0]);
    for (std::int64_t i = 0; i < size; ++i) checkpoints_.set(index * size + i, double(i));
  }
  void backward(const StatesAround<State>& states = {}) {
    const OwnedTensor before = make_state(states.before), behind = make_state(states.behind);
    const OwnedTensor d_before = make_state(states.gradients_before);
    const OwnedTensor d_behind = make_state(states.gradients_behind);
    on_cuda({&before, &behind, &d_before, &d_behind, &checkpoints_})
        .run(LinearAttentionBackward{
            .d_query = d_query_,
            .d_key = d_key_,
            .d_value = d_value_,
            .input = input,
            .gradient = gradient(),
            .checkpoints = checkpoints(),
            .state_before = present(before, states.before),
            .state_behind = present(behind, states.behind),
            .gradients_before = present(d_before, states.gradients_before),
            .gradients_behind = present(d_behind, states.gradients_behind)});
  }
  std::vector<double> sum(ShardSide side) {
    OwnedTensor state = make_state();
    on_cuda({&state}).run(LinearAttentionSum{.state = state, .input = input, .side = side});
    return state.values();
  }
  std::vector<double> gradient_sum(ShardSide side) {
    OwnedTensor state = make_state();
    on_cuda({&state}).run(LinearAttentionGradientSum{
        .state = state, .input = input, .gradient = gradient(), .side = side});
    return state.values();
  }
  /// The outputs token by token, from an empty state.
  std::vector<double> step_by_step() {
    OwnedTensor state = make_state();
    const std::int64_t columns = state.view().shape[2];
    if (input.feature_map.is_exponential()) {
      for (std::int64_t i = columns - 1; i < state.size(); i += columns) state.set(i, -INFINITY);
    }
    for (std::int64_t token = 0; token < input.query.shape[0]; ++token) {
      LinearAttentionInput one = input;
      for (Tensor* rows : {&one.query, &one.key, &one.value}) *rows = rows->rows(token, token + 1);
      one.document_starts = {};
      if (one.key_mask.present()) one.key_mask = one.key_mask.rows(token, token + 1);
      on_cuda({&state}).run(LinearAttentionStep{
          .out = out_.view().rows(token, token + 1), .state = state, .input = one});
    }
    return out();
  }

  std::vector<double> out() const { return out_.values(); }
  std::vector<double> normalizer() const { return normalizer_.values(); }
  std::vector<double> d_query() const { return values(d_query_); }
  std::vector<double> d_key() const { return values(d_key_); }
  std::vector<double> d_value() const { return values(d_value_); }

 private:
  static Tensor part(const OwnedTensor& from, std::int64_t begin, std::int64_t heads,
                     std::int64_t dim) {
    return from.view().columns(begin, begin + heads * dim).split_heads(heads);
  }
  LinearAttentionGradient gradient() const { return {d_out_, out_, normalizer_}; }
  OwnedTensor make_state(const State& numbers = {}) const {
    const FeatureMap& map = input.feature_map;
    OwnedTensor state(DType::f32, {input.query.shape[1], map.features(input.query.shape[2]),
                                   map.state_columns(input.value.shape[2])});
    for (std::size_t i = 0; i < numbers.size(); ++i) state.set(std::int64_t(i), numbers[i]);
    return state;
  }
  static Tensor present(const OwnedTensor& state, const State& numbers) {
    return numbers.empty() ? Tensor{} : state.view();
  }
  Tensor checkpoints() const {
    return input.causal && leaves_checkpoints ? checkpoints_.view() : Tensor{};
  }
  OnCuda on_cuda(std::vector<const OwnedTensor*> more) {
    std::vector<const OwnedTensor*> all = {&joint_,    &d_joint_, &projection_, &starts_,
                                           &attended_, &out_,     &d_out_,      &normalizer_};
    all.insert(all.end(), more.begin(), more.end());
    return {device_, all};
  }
  std::vector<double> values(const Tensor& rows) const {
    std::vector<double> result;
    const std::int64_t row = rows.shape[1] * rows.shape[2];
    const std::int64_t begin = (rows.as<char>() - d_joint_.view().as<char>()) / size_of(dtype_);
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      result.push_back(d_joint_.get(begin + i / row * rows.stride[0] + i % row));
    }
    return result;
  }

  Device& device_;
  DType dtype_;
  OwnedTensor joint_;
  OwnedTensor d_joint_;
  OwnedTensor projection_;
  OwnedTensor starts_;
  OwnedTensor attended_;
  OwnedTensor out_;
  OwnedTensor d_out_;
  OwnedTensor normalizer_;
  OwnedTensor checkpoints_;
  Tensor d_query_;
  Tensor d_key_;
  Tensor d_value_;
};

}  // namespace longscan::test

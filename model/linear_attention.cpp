// Forward and backward of linear attention, side by side, in the order of their collectives.
#include "model/linear_attention.h"

namespace longscan {

namespace {

LinearAttentionInput input_of(const Pass& pass, const FeatureMap& map,
                              const AttentionHeads& heads) {
  return {.query = heads.query,
          .key = heads.key,
          .value = heads.value,
          .document_starts = pass.line.document_starts,
          .key_mask = pass.line.key_mask,
          .feature_map = map,
          .causal = pass.options.causal};
}

ShardSide side_of(Direction direction) {
  return direction == Direction::forward ? ShardSide::back : ShardSide::front;
}

Tensor take_state(Pass& pass, const LinearAttentionInput& input, std::int64_t dim,
                  std::int64_t value_dim) {
  const FeatureMap& map = input.feature_map;
  return pass.arena.take(sum_type(pass.options.dtype),
                         {pass.options.heads, map.features(dim), map.state_columns(value_dim)});
}

// Starts to send the sum of the shard's side from which `direction` leads away; made by `sum` where
// somebody needs it.
template <class Sum>
void start(Pass& pass, const LinearAttentionInput& input, Direction direction,
           const StateLink& link, const Sum& sum) {
  Tensor state;
  if (link.borders.exchanges(direction)) {
    state = take_state(pass, input, input.query.shape[2], input.value.shape[2]);
    sum(state, side_of(direction));
  }
  link.exchange.start(direction, link.borders, state, input.feature_map.is_exponential());
}

}  // namespace

void exchange_linear_states(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                            const StateLink& link, const std::function<void()>& meanwhile) {
  const LinearAttentionInput input = input_of(pass, map, heads);
  const auto sum = [&](const Tensor& state, ShardSide side) {
    pass.device.run(LinearAttentionSum{.state = state, .input = input, .side = side});
  };
  if (link.first_visit) start(pass, input, Direction::forward, link, sum);
  meanwhile();
  if (!link.first_visit) return;
  link.exchange.finish(link.before, link.carry, link.carry);
  if (pass.options.causal) return;
  start(pass, input, Direction::backward, link, sum);
  link.exchange.finish(link.behind, {}, {});
}

void linear_attention_forward(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                              const StateLink& link, const Tensor& out, const Tensor& normalizer) {
  pass.device.run(LinearAttention{.out = out,
                                  .normalizer = normalizer,
                                  .input = input_of(pass, map, heads),
                                  .state_before = link.before,
                                  .state_behind = link.behind});
}

void linear_attention_backward(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                               const LinearAttentionGradient& gradient,
                               const AttentionHeads& d_heads, const StateLink& link,
                               const std::function<void()>& meanwhile) {
  const LinearAttentionInput input = input_of(pass, map, heads);
  const auto sum = [&](const Tensor& state, ShardSide side) {
    pass.device.run(LinearAttentionGradientSum{
        .state = state, .input = input, .gradient = gradient, .side = side});
  };
  const auto take = [&] {
    return take_state(pass, input, input.query.shape[2], input.value.shape[2]);
  };
  start(pass, input, Direction::backward, link, sum);
  pass.device.run(LinearAttentionBackwardQuery{.d_query = d_heads.query,
                                               .input = input,
                                               .gradient = gradient,
                                               .state_before = link.before,
                                               .state_behind = link.behind});
  meanwhile();
  const Tensor behind = take();
  link.exchange.finish(behind, link.d_carry, link.d_carry);
  Tensor before;
  if (!pass.options.causal) {
    start(pass, input, Direction::forward, link, sum);
    before = take();
    link.exchange.finish(before, {}, {});
  }
  pass.device.run(LinearAttentionBackwardKeyValue{.d_key = d_heads.key,
                                                  .d_value = d_heads.value,
                                                  .input = input,
                                                  .gradient = gradient,
                                                  .state_before = before,
                                                  .state_behind = behind});
}

}  // namespace longscan

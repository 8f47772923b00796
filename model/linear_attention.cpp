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

Tensor take_state(Pass& pass, const FeatureMap& map) {
  const std::int64_t dim = pass.options.head_dim();
  return pass.arena.take(sum_type(pass.options.dtype),
                         {pass.options.heads, map.features(dim), map.state_columns(dim)});
}

// Starts to send the sum of the shard's side from which `direction` leads away; made by `sum` where
// somebody needs it.
template <class Sum>
void start(Pass& pass, const LinearAttentionInput& input, Direction direction,
           const StateLink& link, const Sum& sum) {
  Tensor state;
  if (link.borders.exchanges(direction)) {
    state = take_state(pass, input.feature_map);
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

Tensor take_checkpoints(Pass& pass, const FeatureMap& map) {
  if (pass.device.on_host() || !pass.options.causal || !pass.differentiates) return {};
  const std::int64_t dim = pass.options.head_dim();
  return pass.arena.take(sum_type(pass.options.dtype),
                         {checkpoints_of(pass.tokens()) * pass.options.heads, map.features(dim),
                          map.state_columns(dim)});
}

void linear_attention_forward(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                              const StateLink& link, const LinearAttentionKept& kept) {
  pass.device.run(LinearAttention{.out = kept.out,
                                  .normalizer = kept.normalizer,
                                  .input = input_of(pass, map, heads),
                                  .checkpoints = kept.checkpoints,
                                  .state_before = link.before,
                                  .state_behind = link.behind});
}

void linear_attention_backward(Pass& pass, const FeatureMap& map, const AttentionHeads& heads,
                               const LinearAttentionKept& kept, const Tensor& d_out,
                               const AttentionHeads& d_heads, const StateLink& link,
                               const std::function<void()>& meanwhile) {
  const LinearAttentionInput input = input_of(pass, map, heads);
  const LinearAttentionGradient gradient{d_out, kept.out, kept.normalizer};
  const auto sum = [&](const Tensor& state, ShardSide side) {
    pass.device.run(LinearAttentionGradientSum{
        .state = state, .input = input, .gradient = gradient, .side = side});
  };
  start(pass, input, Direction::backward, link, sum);
  meanwhile();
  const Tensor behind = take_state(pass, map);
  link.exchange.finish(behind, link.d_carry, link.d_carry);
  Tensor before;
  if (!pass.options.causal) {
    start(pass, input, Direction::forward, link, sum);
    before = take_state(pass, map);
    link.exchange.finish(before, {}, {});
  }
  pass.device.run(LinearAttentionBackward{.d_query = d_heads.query,
                                          .d_key = d_heads.key,
                                          .d_value = d_heads.value,
                                          .input = input,
                                          .gradient = gradient,
                                          .checkpoints = kept.checkpoints,
                                          .state_before = link.before,
                                          .state_behind = link.behind,
                                          .gradients_before = before,
                                          .gradients_behind = behind});
}

}  // namespace longscan

// Forward and backward of the attention branch, side by side, in the order of their collectives.
#include "model/attention_layer.h"

#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/linear_attention.h"

namespace longscan {

namespace {

// Query, key and value as heads of [tokens, 3 * width].
struct Heads {
  Tensor query;
  Tensor key;
  Tensor value;

  Heads(const Tensor& joint, const ModelOptions& options) {
    const std::int64_t width = options.width;
    query = joint.columns(0, width).split_heads(options.heads);
    key = joint.columns(width, 2 * width).split_heads(options.heads);
    value = joint.columns(2 * width, 3 * width).split_heads(options.heads);
  }
};

void rotate(Pass& pass, const Tensor& heads, bool inverse) {
  if (!pass.rotary_table.present()) return;
  pass.device.run(Rotary{.x = heads, .table = pass.rotary_table, .inverse = inverse});
}

Tensor take_state(Pass& pass) {
  const ModelOptions& options = pass.options;
  return pass.arena.take(options.dtype,
                         {options.heads, options.head_dim(), options.head_dim() + 1});
}

// Columns [begin, end) of the joint projection.
void project(Pass& pass, const AttentionWeights& weights, const Tensor& joint, const Tensor& in,
             std::int64_t begin, std::int64_t end) {
  pass.device.run(Linear{.out = joint.columns(begin, end),
                         .in = in,
                         .weight = weights.query_key_value_weight.rows(begin, end),
                         .bias = weights.query_key_value_bias.rows(begin, end)});
}

void project_key_value(Pass& pass, const AttentionWeights& weights, const AttentionKept& kept) {
  const std::int64_t width = pass.options.width;
  project(pass, weights, kept.query_key_value, kept.norm.out, width, 3 * width);
  rotate(pass, Heads(kept.query_key_value, pass.options).key, false);
}

void project_query(Pass& pass, const AttentionWeights& weights, const AttentionKept& kept) {
  project(pass, weights, kept.query_key_value, kept.norm.out, 0, pass.options.width);
  rotate(pass, Heads(kept.query_key_value, pass.options).query, false);
}

// Sums the shard up and starts the exchange; `link.before` is there after `finish_exchange`.
void start_exchange(Pass& pass, const Heads& heads, const StateLink& link) {
  Tensor sum;
  if (link.borders.exchanges(Direction::forward)) {
    sum = take_state(pass);
    pass.device.run(LinearAttentionSum{.state = sum,
                                       .key = heads.key,
                                       .value = heads.value,
                                       .document_starts = pass.document_starts(),
                                       .feature_map = FeatureMap::elu1});
  }
  link.exchange.start(Direction::forward, link.borders, sum);
}

void finish_exchange(const StateLink& link) {
  link.exchange.finish(link.before, link.carry, link.carry);
}

// d_joint = the gradient with respect to query, key and value, rotary positions taken back. The
// gradient of the query looks back only, so it is computed while the sums of gradients are under
// way, as is `meanwhile`.
template <class Meanwhile>
void differentiate_attention(Pass& pass, const AttentionKept& kept, const Tensor& d_attended,
                             const Tensor& d_joint, const StateLink& link,
                             const Meanwhile& meanwhile) {
  const ModelOptions& options = pass.options;
  const Heads heads(kept.query_key_value, options);
  const Heads d_heads(d_joint, options);
  const Tensor out = kept.attended.split_heads(options.heads);
  const Tensor d_out = d_attended.split_heads(options.heads);
  Tensor sum;
  if (link.borders.exchanges(Direction::backward)) {
    sum = take_state(pass);
    pass.device.run(LinearAttentionGradientSum{.state = sum,
                                               .query = heads.query,
                                               .d_out = d_out,
                                               .out = out,
                                               .normalizer = kept.normalizer,
                                               .document_starts = pass.document_starts(),
                                               .feature_map = FeatureMap::elu1});
  }
  link.exchange.start(Direction::backward, link.borders, sum);
  pass.device.run(LinearAttentionBackwardQuery{.d_query = d_heads.query,
                                               .d_out = d_out,
                                               .out = out,
                                               .normalizer = kept.normalizer,
                                               .query = heads.query,
                                               .key = heads.key,
                                               .value = heads.value,
                                               .state_before = link.before,
                                               .document_starts = pass.document_starts(),
                                               .feature_map = FeatureMap::elu1});
  meanwhile();
  const Tensor after = take_state(pass);
  link.exchange.finish(after, link.d_carry, link.d_carry);
  pass.device.run(LinearAttentionBackwardKeyValue{.d_key = d_heads.key,
                                                  .d_value = d_heads.value,
                                                  .d_out = d_out,
                                                  .out = out,
                                                  .normalizer = kept.normalizer,
                                                  .query = heads.query,
                                                  .key = heads.key,
                                                  .value = heads.value,
                                                  .state_after = after,
                                                  .document_starts = pass.document_starts(),
                                                  .feature_map = FeatureMap::elu1});
  rotate(pass, d_heads.query, true);
  rotate(pass, d_heads.key, true);
}

// dropout(attended output_weight^T + output_bias).
Tensor project_out(Pass& pass, const AttentionWeights& weights, const Tensor& attended,
                   std::int64_t site) {
  const Tensor out = pass.take(pass.options.width);
  pass.device.run(Linear{
      .out = out, .in = attended, .weight = weights.output_weight, .bias = weights.output_bias});
  if (pass.dropout.rate > 0) pass.drop(out, out, site);
  return out;
}

}  // namespace

void attention_states(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const StateLink& link) {
  AttentionKept kept{.norm = norm_forward(pass, weights.norm, in),
                     .query_key_value = pass.take(3 * pass.options.width)};
  project_key_value(pass, weights, kept);
  start_exchange(pass, Heads(kept.query_key_value, pass.options), link);
  finish_exchange(link);
}

Tensor attention_forward(Pass& pass, const AttentionWeights& weights, AttentionKept& kept,
                         const Tensor& in, const StateLink& link, std::int64_t site) {
  const ModelOptions& options = pass.options;
  kept.norm = norm_forward(pass, weights.norm, in);
  kept.query_key_value = pass.take(3 * options.width);
  kept.attended = pass.take(options.width);
  kept.normalizer = pass.take(options.heads);
  const Heads heads(kept.query_key_value, options);

  project_key_value(pass, weights, kept);
  if (link.first_visit) start_exchange(pass, heads, link);
  project_query(pass, weights, kept);
  if (link.first_visit) finish_exchange(link);
  pass.device.run(LinearAttention{.out = kept.attended.split_heads(options.heads),
                                  .normalizer = kept.normalizer,
                                  .query = heads.query,
                                  .key = heads.key,
                                  .value = heads.value,
                                  .state_before = link.before,
                                  .document_starts = pass.document_starts(),
                                  .feature_map = FeatureMap::elu1});
  return project_out(pass, weights, kept.attended, site);
}

void attention_backward(Pass& pass, const AttentionWeights& weights,
                        const AttentionWeights& d_weights, const AttentionKept& kept,
                        const Tensor& d_out, const Tensor& d_in, const StateLink& link,
                        std::int64_t site) {
  const std::int64_t width = pass.options.width;
  const Arena::Mark mark = pass.arena.mark();
  Tensor d_branch = d_out;
  if (pass.dropout.rate > 0) {
    d_branch = pass.take(width);
    pass.drop(d_branch, d_out, site);
  }
  const Tensor d_attended = pass.take(width);
  pass.device.run(MatMul{.out = d_attended, .a = d_branch, .b = weights.output_weight});
  const Tensor d_joint = pass.take(3 * width);
  differentiate_attention(pass, kept, d_attended, d_joint, link, [&] {
    pass.device.run(LinearBackwardWeight{.d_weight = d_weights.output_weight,
                                         .d_bias = d_weights.output_bias,
                                         .d_out = d_branch,
                                         .in = kept.attended});
  });
  pass.device.run(LinearBackwardWeight{.d_weight = d_weights.query_key_value_weight,
                                       .d_bias = d_weights.query_key_value_bias,
                                       .d_out = d_joint,
                                       .in = kept.norm.out});
  const Tensor d_norm = pass.take(width);
  pass.device.run(MatMul{.out = d_norm, .a = d_joint, .b = weights.query_key_value_weight});
  norm_backward(pass, weights.norm, d_weights.norm, kept.norm, d_norm, d_in);
  pass.arena.rewind_to(mark);
}

Tensor attention_step(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const Tensor& state) {
  const ModelOptions& options = pass.options;
  AttentionKept kept{.norm = norm_forward(pass, weights.norm, in),
                     .query_key_value = pass.take(3 * options.width),
                     .attended = pass.take(options.width)};
  project_key_value(pass, weights, kept);
  project_query(pass, weights, kept);
  const Heads heads(kept.query_key_value, options);
  pass.device.run(LinearAttentionStep{.out = kept.attended.split_heads(options.heads),
                                      .state = state,
                                      .query = heads.query,
                                      .key = heads.key,
                                      .value = heads.value,
                                      .feature_map = FeatureMap::elu1});
  return project_out(pass, weights, kept.attended, 0);
}

}  // namespace longscan

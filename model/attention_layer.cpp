// Forward and backward of the attention branch, side by side, in the order of their collectives.
#include "model/attention_layer.h"

#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "model/linformer_attention.h"

namespace longscan {

namespace {

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

FeatureMap feature_map_of(const AttentionLink& link) {
  return {.kind = feature_kind_of(link.attention.kind), .projection = link.projection};
}

BlockLink block_link_of(const AttentionLink& link) {
  return {.exchange = link.blocks, .borders = link.states.borders};
}

AttentionHeads heads_of(const Pass& pass, const AttentionKept& kept) {
  return AttentionHeads::of(kept.query_key_value, pass.options);
}

void rotate(Pass& pass, const Tensor& heads, bool inverse) {
  if (!pass.rotary_table.present()) return;
  pass.device.run(Rotary{.x = heads, .table = pass.rotary_table, .inverse = inverse});
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
  rotate(pass, heads_of(pass, kept).key, false);
}

void project_query(Pass& pass, const AttentionWeights& weights, const AttentionKept& kept) {
  project(pass, weights, kept.query_key_value, kept.norm.out, 0, pass.options.width);
  rotate(pass, heads_of(pass, kept).query, false);
}

// The columns of the value in a joint projection.
Tensor value_of(const Pass& pass, const Tensor& joint) {
  return joint.columns(2 * pass.options.width, 3 * pass.options.width);
}

AttentionKept begin(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                    const AttentionLink& link) {
  AttentionKept kept{.norm = norm_forward(pass, weights.norm, in),
                     .query_key_value = pass.take(3 * pass.options.width)};
  if (link.attention.kind == AttentionKind::identity) {
    kept.attended = value_of(pass, kept.query_key_value);
  } else {
    kept.attended = pass.take(pass.options.width);
    kept.normalizer = pass.take_sums(pass.options.heads);
  }
  return kept;
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

// d_heads, from the gradient with respect to attended; adds to the gradients of projections.
// `meanwhile` waits for nobody.
void differentiate(Pass& pass, const AttentionWeights& weights, const AttentionWeights& d_weights,
                   const AttentionKept& kept, const Tensor& d_attended,
                   const AttentionHeads& d_heads, const AttentionLink& link,
                   const std::function<void()>& meanwhile) {
  const AttentionHeads heads = heads_of(pass, kept);
  const Tensor d_out = d_attended.split_heads(pass.options.heads);
  const Tensor out = kept.attended.split_heads(pass.options.heads);
  switch (link.attention.kind) {
    case AttentionKind::identity:
      return meanwhile();
    case AttentionKind::linformer:
      return linformer_attention_backward(pass, weights, d_weights, heads, kept.projected,
                                          {d_out, out, kept.normalizer}, d_heads, link.states,
                                          meanwhile);
    case AttentionKind::softmax:
      return softmax_attention_backward(pass, heads, {d_out, out, kept.normalizer}, d_heads,
                                        block_link_of(link), meanwhile);
    default:
      return linear_attention_backward(pass, feature_map_of(link), heads,
                                       {out, kept.normalizer, kept.checkpoints}, d_out, d_heads,
                                       link.states, meanwhile);
  }
}

}  // namespace

Tensor attend(Pass& pass, const AttentionWeights& weights, const AttentionHeads& heads,
              AttentionKept& kept, const AttentionLink& link,
              const std::function<void()>& meanwhile) {
  const Tensor out = kept.attended.split_heads(pass.options.heads);
  switch (link.attention.kind) {
    case AttentionKind::identity:
      meanwhile();
      return heads.value;
    case AttentionKind::linformer:
      kept.projected = linformer_attention_forward(pass, weights, heads, link.states, out,
                                                   kept.normalizer, meanwhile);
      return out;
    case AttentionKind::softmax:
      softmax_attention_forward(pass, heads, block_link_of(link), out, kept.normalizer, meanwhile);
      if (pass.generates) link.cache.append(pass, heads);
      return out;
    default:
      break;
  }
  const FeatureMap map = feature_map_of(link);
  exchange_linear_states(pass, map, heads, link.states, meanwhile);
  linear_attention_forward(pass, map, heads, link.states, {out, kept.normalizer, kept.checkpoints});
  return out;
}

void attention_states(Pass& pass, const AttentionWeights& weights, const Tensor& in,
                      const AttentionLink& link) {
  const AttentionKept kept = begin(pass, weights, in, link);
  if (link.attention.kind == AttentionKind::identity) return;
  project_key_value(pass, weights, kept);
  exchange_linear_states(pass, feature_map_of(link), heads_of(pass, kept), link.states, [] {});
}

Tensor attention_forward(Pass& pass, const AttentionWeights& weights, AttentionKept& kept,
                         const Tensor& in, const AttentionLink& link, std::int64_t site) {
  kept = begin(pass, weights, in, link);
  if (is_linear(link.attention.kind)) {
    kept.checkpoints = take_checkpoints(pass, feature_map_of(link));
  }
  project_key_value(pass, weights, kept);
  const AttentionHeads heads = heads_of(pass, kept);
  attend(pass, weights, heads, kept, link, [&] { project_query(pass, weights, kept); });
  if (pass.observer != nullptr) (*pass.observer)(pass, weights, heads, link);
  return project_out(pass, weights, kept.attended, site);
}

void attention_backward(Pass& pass, const AttentionWeights& weights,
                        const AttentionWeights& d_weights, const AttentionKept& kept,
                        const Tensor& d_out, const Tensor& d_in, const AttentionLink& link,
                        std::int64_t site) {
  const std::int64_t width = pass.options.width;
  const Arena::Mark mark = pass.arena.mark();
  Tensor d_branch = d_out;
  if (pass.dropout.rate > 0) {
    d_branch = pass.take(width);
    pass.drop(d_branch, d_out, site);
  }
  const Tensor d_joint = pass.take(3 * width);
  const bool identity = link.attention.kind == AttentionKind::identity;
  // The identity leaves query and key without a gradient, softmax adds to it.
  if (identity || link.attention.kind == AttentionKind::softmax) {
    pass.device.run(Fill{.out = d_joint, .value = 0});
  }
  const Tensor d_attended = identity ? value_of(pass, d_joint) : pass.take(width);
  pass.device.run(MatMul{.out = d_attended, .a = d_branch, .b = weights.output_weight});
  const AttentionHeads d_heads = AttentionHeads::of(d_joint, pass.options);
  differentiate(pass, weights, d_weights, kept, d_attended, d_heads, link, [&] {
    pass.device.run(LinearBackwardWeight{.d_weight = d_weights.output_weight,
                                         .d_bias = d_weights.output_bias,
                                         .d_out = d_branch,
                                         .in = kept.attended});
  });
  rotate(pass, d_heads.query, true);
  rotate(pass, d_heads.key, true);
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
                      const AttentionLink& link) {
  const AttentionKept kept = begin(pass, weights, in, link);
  project_key_value(pass, weights, kept);
  project_query(pass, weights, kept);
  const AttentionHeads heads = heads_of(pass, kept);
  const Tensor out = kept.attended.split_heads(pass.options.heads);
  switch (link.attention.kind) {
    case AttentionKind::identity:
      break;
    case AttentionKind::softmax:
      link.cache.append(pass, heads);
      softmax_attention_step(pass, heads.query, link.cache, out, kept.normalizer);
      break;
    default:
      pass.device.run(LinearAttentionStep{.out = out,
                                          .state = link.states.carry,
                                          .input = {.query = heads.query,
                                                    .key = heads.key,
                                                    .value = heads.value,
                                                    .feature_map = feature_map_of(link)}});
  }
  return project_out(pass, weights, kept.attended, 0);
}

}  // namespace longscan

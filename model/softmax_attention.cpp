// Forward and backward of exact softmax attention, side by side, in the order of their collectives.
#include "model/softmax_attention.h"

#include <limits>
#include <vector>

#include "kernels/elementwise.h"

namespace longscan {

namespace {

LineBlock block_of(const Pass& pass) {
  return {.first_token = pass.shard.first_token, .document = pass.line.document};
}

SoftmaxQueries queries_of(const Pass& pass, const Tensor& query) {
  return {.query = query, .block = block_of(pass)};
}

SoftmaxKeys keys_of(const Pass& pass, const AttentionHeads& heads) {
  return {.key = heads.key,
          .value = heads.value,
          .block = block_of(pass),
          .key_mask = pass.line.key_mask};
}

// Where keys have to go: to the tokens that see them.
std::vector<Direction> ways_of_keys(const Pass& pass) {
  if (pass.options.causal) return {Direction::forward};
  return {Direction::forward, Direction::backward};
}

Direction opposite(Direction direction) {
  return direction == Direction::forward ? Direction::backward : Direction::forward;
}

// `body(keys)` for those of each shard that comes by.
template <class Body>
BlockStream stream_of_keys(const Pass& pass, const AttentionHeads& heads, const BlockLink& link,
                           Direction direction, Body body) {
  std::vector<Tensor> mine{heads.key, heads.value, pass.line.document};
  if (link.borders.masked()) {
    // A shard without tokens has no mask, but passes those of others on.
    mine.push_back(pass.line.attended);
    require(mine.back().shape[0] == pass.tokens(), "Shard.attended", "is there on all ranks");
  }
  return {
      .direction = direction,
      .mine = std::move(mine),
      .body = [first = pass.shard.first_token, body](const VisitingBlock& visiting) {
        const std::span<const Tensor> tensors = visiting.tensors;
        body(SoftmaxKeys{.key = tensors[0],
                         .value = tensors[1],
                         .block = {.first_token = first + visiting.offset, .document = tensors[2]},
                         .key_mask = tensors.size() > 3 ? tensors[3] : Tensor{}});
      }};
}

// The same of queries and what their outputs hand back.
template <class Body>
BlockStream stream_of_queries(const Pass& pass, const Tensor& query,
                              const SoftmaxGradient& gradient, Direction direction, Body body) {
  return {
      .direction = direction,
      .mine = {query, gradient.d_out, gradient.log_sum, gradient.d_out_dot, pass.line.document},
      .body = [first = pass.shard.first_token, body](const VisitingBlock& visiting) {
        const std::span<const Tensor> tensors = visiting.tensors;
        body(SoftmaxQueries{.query = tensors[0],
                            .block = {.first_token = first + visiting.offset,
                                      .document = tensors[4]}},
             SoftmaxGradient{.d_out = tensors[1], .log_sum = tensors[2], .d_out_dot = tensors[3]});
      }};
}

void forget_all_keys(Pass& pass, const Tensor& log_sum) {
  pass.device.run(Fill{.out = log_sum, .value = -std::numeric_limits<double>::infinity()});
}

}  // namespace

void softmax_attention_forward(Pass& pass, const AttentionHeads& heads, const BlockLink& link,
                               const Tensor& out, const Tensor& log_sum,
                               const std::function<void()>& meanwhile) {
  const auto attend_to = [&](const SoftmaxKeys& keys) {
    pass.device.run(SoftmaxAttention{.out = out,
                                     .log_sum = log_sum,
                                     .queries = queries_of(pass, heads.query),
                                     .keys = keys,
                                     .causal = pass.options.causal});
  };
  forget_all_keys(pass, log_sum);
  std::vector<BlockStream> streams;
  for (const Direction way : ways_of_keys(pass)) {
    streams.push_back(stream_of_keys(pass, heads, link, way, attend_to));
  }
  link.exchange.pass(link.borders, streams, [&] {
    meanwhile();
    attend_to(keys_of(pass, heads));
  });
}

void softmax_attention_backward(Pass& pass, const AttentionHeads& heads,
                                const SoftmaxOutputs& outputs, const AttentionHeads& d_heads,
                                const BlockLink& link, const std::function<void()>& meanwhile) {
  const Arena::Mark mark = pass.arena.mark();
  const SoftmaxGradient gradient{.d_out = outputs.d_out,
                                 .log_sum = outputs.log_sum,
                                 .d_out_dot = pass.take_sums(pass.options.heads)};
  pass.device.run(HeadDot{.dot = gradient.d_out_dot, .a = outputs.d_out, .b = outputs.out});
  const SoftmaxQueries my_queries = queries_of(pass, heads.query);
  const SoftmaxKeys my_keys = keys_of(pass, heads);
  const auto differentiate_query = [&](const SoftmaxKeys& keys) {
    pass.device.run(SoftmaxAttentionBackwardQuery{.d_query = d_heads.query,
                                                  .queries = my_queries,
                                                  .keys = keys,
                                                  .gradient = gradient,
                                                  .causal = pass.options.causal});
  };
  const auto differentiate_keys = [&](const SoftmaxQueries& queries,
                                      const SoftmaxGradient& theirs) {
    pass.device.run(SoftmaxAttentionBackwardKeyValue{.d_key = d_heads.key,
                                                     .d_value = d_heads.value,
                                                     .queries = queries,
                                                     .keys = my_keys,
                                                     .gradient = theirs,
                                                     .causal = pass.options.causal});
  };
  std::vector<BlockStream> streams;
  for (const Direction way : ways_of_keys(pass)) {
    streams.push_back(stream_of_keys(pass, heads, link, way, differentiate_query));
    streams.push_back(
        stream_of_queries(pass, heads.query, gradient, opposite(way), differentiate_keys));
  }
  link.exchange.pass(link.borders, streams, [&] {
    differentiate_query(my_keys);
    differentiate_keys(my_queries, gradient);
    meanwhile();
  });
  pass.arena.rewind_to(mark);
}

void softmax_attention_step(Pass& pass, const Tensor& query, const KeyValueCache& cache,
                            const Tensor& out, const Tensor& log_sum) {
  forget_all_keys(pass, log_sum);
  pass.device.run(SoftmaxAttention{
      .out = out, .log_sum = log_sum, .queries = queries_of(pass, query), .keys = cache.keys()});
}

}  // namespace longscan

// The way of a line through the model, there and back.
#include "model/transformer.h"

#include <algorithm>
#include <bit>

#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/linear.h"
#include "kernels/loss.h"

namespace longscan {

namespace {

// Logits are made for as many tokens at a time as this many numbers hold: little memory, and they
// stay in the cache.
constexpr std::int64_t kLogitsAtOnce = std::int64_t{1} << 18;
constexpr std::int64_t kFewestRowsAtOnce = 64;
// GPUs need large products, and have no cache that would hold even small ones.
constexpr std::int64_t kLogitsAtOnceOnGpu = std::int64_t{1} << 26;

const ModelOptions& checked(const ModelOptions& options, const Device& device) {
  options.check();
  if (options.dtype == (device.on_host() ? DType::bf16 : DType::f64)) {
    throw Error(
        ErrorKind::usage,
        {.what = fmt::format("the model is to be computed in {}", name_of(options.dtype)),
         .why = device.on_host() ? "the CPU computes in f32" : "GPUs compute in f32 or bf16",
         .hint = device.on_host() ? "take a GPU, or f32" : "take another precision"});
  }
  return options;
}

}  // namespace

Transformer::Transformer(const ModelOptions& options, Device& device, Communicator& group)
    : options_(checked(options, device)),
      device_(device),
      group_(group),
      exchange_(group, device),
      blocks_(group, device),
      states_(options_, device),
      features_(options_, device),
      totals_memory_(device.allocate(3 * size_of(DType::f64))),
      totals_(Tensor::dense(totals_memory_.data(), DType::f64, {3})) {
  caches_.resize(static_cast<std::size_t>(options.layers));
  if (options_.reversible) layers_ = ReversibleLayers();
  states_.prepare(1);
}

std::int64_t Transformer::tokens_with_logits(const ModelOptions& options, const Device& device) {
  const std::int64_t at_once = device.on_host() ? kLogitsAtOnce : kLogitsAtOnceOnGpu;
  return std::max(at_once / options.vocabulary, kFewestRowsAtOnce);
}

void Transformer::train(const Weights& weights, const Weights& d_weights, const Tensor& totals,
                        std::span<const Shard> segments, const DropoutPlan& dropout) {
  const std::vector<SegmentBorders> borders = borders_of(segments);
  const auto last = static_cast<std::int64_t>(segments.size()) - 1;
  states_.prepare(last + 1);
  for (std::int64_t segment = 0; segment < last; ++segment) {
    Pass pass = begin_pass(segments[segment], dropout);
    replay(visit_of(pass, weights, d_weights, totals, segment, borders[segment], false, true),
           [&] { visit_for_states(pass, weights, segment, borders[segment]); });
  }
  for (std::int64_t segment = last; segment >= 0; --segment) {
    Pass pass = begin_pass(segments[segment], dropout);
    pass.differentiates = true;
    const bool first_visit = segment == last;
    replay(visit_of(pass, weights, d_weights, totals, segment, borders[segment], true, first_visit),
           [&] {
             visit(pass, weights, segment, borders[segment], first_visit);
             backward(pass, weights, d_weights, totals, segment, borders[segment]);
           });
  }
}

LossTotals Transformer::evaluate(const Weights& weights, std::span<const Shard> segments) {
  const std::vector<SegmentBorders> borders = borders_of(segments);
  states_.prepare(1);
  device_.run(Fill{.out = totals_, .value = 0});
  for (std::size_t segment = 0; segment < segments.size(); ++segment) {
    Pass pass = begin_pass(segments[segment], {});
    visit(pass, weights, 0, borders[segment], true);
    loss(pass, weights, nullptr, totals_);
  }
  return LossTotals::from(host_copy_.of(device_, totals_));
}

void Transformer::attention_matrices(
    const Weights& weights, const Shard& shard, std::span<const std::int64_t> layers,
    HeadRange shown, const std::function<void(std::int64_t layer, const Tensor& matrices)>& see) {
  require(group_.size() == 1, "Transformer.attention_matrices", "is for a group of one rank");
  states_.prepare(1);
  const AttentionObserver observer = [&](Pass& pass, const AttentionWeights& attention,
                                         const AttentionHeads& heads, const AttentionLink& link) {
    if (std::find(layers.begin(), layers.end(), link.layer) == layers.end()) return;
    const Arena::Mark mark = arena_.mark();
    see(link.layer, host_copy_.of(device_, attention_matrix(pass, attention, heads, link, shown)));
    arena_.rewind_to(mark);
  };
  const SegmentBorders borders({borders_of_shard(shard.size(), shard.document_starts)}, false,
                               false);
  Pass pass = begin_pass(shard, {});
  pass.observer = &observer;
  visit(pass, weights, 0, borders, true);
}

Tensor Transformer::prompt(const Weights& weights, const Shard& prompt) {
  require(group_.size() == 1, "Transformer.prompt", "is for a group of one rank");
  require(prompt.size() > 0, "Transformer.prompt", "has at least one token");
  states_.prepare(1);
  // Nothing precedes a prompt, but tokens will follow it: its state is carried on.
  const SegmentBorders borders({borders_of_shard(prompt.size(), prompt.document_starts)}, false,
                               true);
  for (KeyValueCache& cache : caches_) cache.clear();
  Pass pass = begin_pass(prompt, {});
  pass.generates = true;
  visit(pass, weights, 0, borders, true);
  return logits_of_last(pass, weights, kept_norm_.out.rows(prompt.size() - 1, prompt.size()));
}

Tensor Transformer::step(const Weights& weights, std::int32_t token, std::int64_t position) {
  const Shard shard{
      .tokens = {&token, 1}, .targets = {}, .positions = {&position, 1}, .first_token = position};
  const SegmentBorders borders({borders_of_shard(1, {})}, true, true);
  Pass pass = begin_pass(shard, {});
  const Tensor embedded = embed(pass, weights);
  const Tensor stream = with_layers([&](auto& layers) {
    return layers.step(pass, weights.layers, embedded, links(0, borders, true));
  });
  return logits_of_last(pass, weights, norm_forward(pass, weights.norm, stream).out);
}

Pass Transformer::begin_pass(const Shard& shard, const DropoutPlan& dropout) {
  arena_.rewind();
  Pass pass{.device = device_,
            .arena = arena_,
            .options = options_,
            .shard = shard,
            .line = tensors_of(shard, options_, device_, arena_),
            .dropout = dropout,
            .dropout_step = {},
            .rotary_table = {}};
  if (dropout.rate > 0) {
    pass.dropout_step = dropout_step_of(dropout, options_, device_, arena_);
  }
  if (options_.positions == Positions::rotary) {
    pass.rotary_table = pass.take_sums(options_.head_dim());
    device_.run(RotaryTable{.table = pass.rotary_table, .position = pass.line.positions});
  }
  return pass;
}

AttentionLink Transformer::link(std::int64_t layer, std::int64_t segment,
                                const SegmentBorders& borders, bool first_visit) {
  return {.layer = layer,
          .attention = options_.attention_of(layer),
          .projection = features_.projection(layer),
          .states = {.exchange = exchange_,
                     .borders = borders,
                     .before = states_.before(segment, layer),
                     .behind = states_.behind(layer),
                     .carry = states_.carry(layer),
                     .d_carry = states_.d_carry(layer),
                     .first_visit = first_visit},
          .blocks = blocks_,
          .cache = caches_.at(static_cast<std::size_t>(layer))};
}

LinkOf Transformer::links(std::int64_t segment, const SegmentBorders& borders, bool first_visit) {
  return [this, segment, &borders, first_visit](std::size_t layer) {
    return link(static_cast<std::int64_t>(layer), segment, borders, first_visit);
  };
}

Transformer::Visit Transformer::visit_of(const Pass& pass, const Weights& weights,
                                         const Weights& d_weights, const Tensor& totals,
                                         std::int64_t segment, const SegmentBorders& borders,
                                         bool backward, bool first_visit) const {
  if (group_.size() > 1) return {};  // exchanges are not operations
  const auto address = [](const Tensor& tensor) {
    return reinterpret_cast<std::int64_t>(tensor.data);
  };
  const std::span<const std::int64_t> starts = pass.shard.document_starts;
  return {backward ? 1 : 0,
          first_visit ? 1 : 0,
          segment,
          borders.carries_on(Direction::forward) ? 1 : 0,
          borders.carries_on(Direction::backward) ? 1 : 0,
          borders.masked() ? 1 : 0,
          pass.tokens(),
          std::ssize(starts),
          !starts.empty() && starts.front() == 0 ? 1 : 0,
          pass.shard.first_token,
          std::bit_cast<std::int64_t>(pass.dropout.rate),
          std::bit_cast<std::int64_t>(pass.dropout.seed),
          address(pass.line.tokens),
          address(weights.embedding),
          address(d_weights.embedding),
          address(totals)};
}

void Transformer::replay(const Visit& visit, const std::function<void()>& body) {
  if (visit.empty()) return body();
  // Lines of ever other documents would fill the memory with what never comes again.
  constexpr std::size_t kMostRecordings = 64;
  if (recordings_.size() >= kMostRecordings && !recordings_.contains(visit)) recordings_.clear();
  device_.replay(recordings_[visit], body);
}

Tensor Transformer::embed(Pass& pass, const Weights& weights) {
  const Tensor stream = pass.take(options_.width);
  const Tensor positions = pass.line.positions;
  device_.run(Embedding{.out = stream, .table = weights.embedding, .index = pass.line.tokens});
  if (options_.positions == Positions::learned) {
    device_.run(Embedding{
        .out = stream, .table = weights.positions, .index = positions, .accumulate = true});
  } else if (options_.positions == Positions::sinusoidal) {
    device_.run(SinusoidalPositions{.out = stream, .position = positions});
  }
  if (pass.dropout.rate > 0) pass.drop(stream, stream, 0);
  return stream;
}

void Transformer::visit_for_states(Pass& pass, const Weights& weights, std::int64_t segment,
                                   const SegmentBorders& borders) {
  const Tensor embedded = embed(pass, weights);
  with_layers([&](auto& layers) {
    layers.states(pass, weights.layers, embedded, links(segment, borders, true));
  });
}

void Transformer::visit(Pass& pass, const Weights& weights, std::int64_t segment,
                        const SegmentBorders& borders, bool first_visit) {
  const Tensor embedded = embed(pass, weights);
  const Tensor stream = with_layers([&](auto& layers) {
    return layers.forward(pass, weights.layers, embedded, links(segment, borders, first_visit));
  });
  kept_norm_ = norm_forward(pass, weights.norm, stream);
}

void Transformer::backward(Pass& pass, const Weights& weights, const Weights& d_weights,
                           const Tensor& totals, std::int64_t segment,
                           const SegmentBorders& borders) {
  const Tensor d_normed = loss(pass, weights, &d_weights, totals);
  const Tensor d_stream = pass.take(options_.width);
  device_.run(Fill{.out = d_stream, .value = 0});
  norm_backward(pass, weights.norm, d_weights.norm, kept_norm_, d_normed, d_stream);
  with_layers([&](auto& layers) {
    layers.backward(pass, weights.layers, d_weights.layers, d_stream,
                    links(segment, borders, false));
  });
  if (pass.dropout.rate > 0) pass.drop(d_stream, d_stream, 0);
  device_.run(EmbeddingBackward{
      .d_table = d_weights.embedding, .d_out = d_stream, .index = pass.line.tokens});
  if (options_.positions == Positions::learned) {
    device_.run(EmbeddingBackward{
        .d_table = d_weights.positions, .d_out = d_stream, .index = pass.line.positions});
  }
}

Tensor Transformer::loss(Pass& pass, const Weights& weights, const Weights* d_weights,
                         const Tensor& totals) {
  const Tensor d_normed = d_weights ? pass.take(options_.width) : Tensor{};
  const std::int64_t tokens = pass.tokens();
  const std::int64_t rows = tokens_with_logits(options_, device_);
  for (std::int64_t begin = 0; begin < tokens; begin += rows) {
    const std::int64_t end = std::min(begin + rows, tokens);
    const Arena::Mark mark = arena_.mark();
    const Tensor logits = arena_.take(options_.dtype, {end - begin, options_.vocabulary});
    const Tensor normed = kept_norm_.out.rows(begin, end);
    device_.run(Linear{.out = logits, .in = normed, .weight = weights.head});
    device_.run(CrossEntropy{.totals = totals,
                             .logits = logits,
                             .targets = pass.line.targets.rows(begin, end),
                             .gradient = d_weights != nullptr});
    if (d_weights) {
      device_.run(MatMul{.out = d_normed.rows(begin, end), .a = logits, .b = weights.head});
      device_.run(LinearBackwardWeight{.d_weight = d_weights->head, .d_out = logits, .in = normed});
    }
    arena_.rewind_to(mark);
  }
  return d_normed;
}

Tensor Transformer::logits_of_last(Pass& pass, const Weights& weights, const Tensor& normed) {
  const Tensor logits = pass.arena.take(options_.dtype, {1, options_.vocabulary});
  device_.run(Linear{.out = logits, .in = normed, .weight = weights.head});
  return host_copy_.of(device_, logits);
}

std::vector<SegmentBorders> Transformer::borders_of(std::span<const Shard> segments) {
  if (segments.size() > 1 && !options_.takes_segments()) {
    throw Error(ErrorKind::usage,
                {.what = fmt::format("a line comes in {} segments", segments.size()),
                 .why = "the model's attention does more than sum up what came before",
                 .hint = "take the line in one segment, over more ranks"});
  }
  std::vector<ShardBorders> mine;
  for (const Shard& shard : segments) {
    mine.push_back(borders_of_shard(shard.size(), shard.document_starts));
    mine.back().masked = !shard.attended.empty();
  }
  return gather_borders(group_, mine);
}

}  // namespace longscan

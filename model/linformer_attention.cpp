// Forward and backward of Linformer, side by side, in the order of their collectives.
#include "model/linformer_attention.h"

#include "kernels/elementwise.h"

namespace longscan {

namespace {

LinformerKeys keys_of(const Pass& pass, const AttentionWeights& weights,
                      const AttentionHeads& heads) {
  return {.key = heads.key,
          .value = heads.value,
          .key_projection = weights.linformer_key,
          .value_projection = weights.linformer_value,
          .position = pass.line.positions,
          .document_starts = pass.line.document_starts,
          .key_mask = pass.line.key_mask};
}

// [EK, FV] or their gradients of this shard's tokens, document after document.
class DocumentSums {
 public:
  DocumentSums(Pass& pass, std::int64_t length)
      : pass_(pass),
        heads_(pass.options.heads),
        documents_(count_documents(pass.tokens(), Pass::view_of(pass.shard.document_starts))),
        sums_(pass.arena.take(sum_type(pass.options.dtype),
                              {documents_ * heads_, length, 2 * pass.options.head_dim()})) {}

  const Tensor& sums() const { return sums_; }
  Tensor take_state() const {
    return pass_.arena.take(sums_.dtype, {heads_, sums_.shape[1], sums_.shape[2]});
  }

  /// Fills `before` and `behind` with what the first and the last document have outside of the
  /// shard; `meanwhile` is called while that is under way.
  void exchange(const StateLink& link, const Tensor& before, const Tensor& behind,
                const std::function<void()>& meanwhile) const {
    start(Direction::forward, link);
    meanwhile();
    link.exchange.finish(before, {}, {});
    start(Direction::backward, link);
    link.exchange.finish(behind, {}, {});
  }

  /// The sums of whole documents, from then on.
  void add(const Tensor& before, const Tensor& behind) const {
    if (documents_ == 0) return;
    add_to(of_document(0), before);
    add_to(of_document(documents_ - 1), behind);
  }

 private:
  Tensor of_document(std::int64_t document) const {
    return sums_.rows(document * heads_, (document + 1) * heads_);
  }

  // Starts to send the sum of the tokens that share their document with the next shards in that
  // direction: of the last document, or of the first one where it began earlier.
  void start(Direction direction, const StateLink& link) const {
    Tensor sum;
    if (link.borders.exchanges(direction)) {
      const std::span<const std::int64_t> starts = pass_.shard.document_starts;
      const bool begins_here = !starts.empty() && starts.front() == 0;
      if (documents_ == 0 || (direction == Direction::backward && begins_here)) {
        sum = take_state();
        pass_.device.run(Fill{.out = sum});
      } else {
        sum = of_document(direction == Direction::forward ? documents_ - 1 : 0);
      }
    }
    link.exchange.start(direction, link.borders, sum);
  }

  void add_to(const Tensor& sum, const Tensor& outer) const {
    const auto flat = [](const Tensor& state) {
      return state.reshaped({state.shape[0] * state.shape[1], state.shape[2]});
    };
    pass_.device.run(Add{.out = flat(sum), .a = flat(sum), .b = flat(outer)});
  }

  Pass& pass_;
  std::int64_t heads_;
  std::int64_t documents_;
  Tensor sums_;
};

}  // namespace

Tensor linformer_attention_forward(Pass& pass, const AttentionWeights& weights,
                                   const AttentionHeads& heads, const StateLink& link,
                                   const Tensor& out, const Tensor& log_sum,
                                   const std::function<void()>& meanwhile) {
  const DocumentSums projected(pass, link.before.shape[1]);
  pass.device.run(
      LinformerProject{.projected = projected.sums(), .keys = keys_of(pass, weights, heads)});
  link.first_visit ? projected.exchange(link, link.before, link.behind, meanwhile) : meanwhile();
  projected.add(link.before, link.behind);
  pass.device.run(LinformerAttend{.out = out,
                                  .log_sum = log_sum,
                                  .queries = {.query = heads.query,
                                              .projected = projected.sums(),
                                              .document_starts = pass.line.document_starts}});
  return projected.sums();
}

void linformer_attention_backward(Pass& pass, const AttentionWeights& weights,
                                  const AttentionWeights& d_weights, const AttentionHeads& heads,
                                  const Tensor& projected, const LinformerGradient& gradient,
                                  const AttentionHeads& d_heads, const StateLink& link,
                                  const std::function<void()>& meanwhile) {
  const Arena::Mark mark = pass.arena.mark();
  const LinformerQueries queries{
      .query = heads.query, .projected = projected, .document_starts = pass.line.document_starts};
  const DocumentSums d_projected(pass, projected.shape[1]);
  const Tensor before = d_projected.take_state();
  const Tensor behind = d_projected.take_state();
  pass.device.run(LinformerBackwardProjected{
      .d_projected = d_projected.sums(), .queries = queries, .gradient = gradient});
  d_projected.exchange(link, before, behind, [&] {
    pass.device.run(
        LinformerBackwardQuery{.d_query = d_heads.query, .queries = queries, .gradient = gradient});
    meanwhile();
  });
  d_projected.add(before, behind);
  pass.device.run(LinformerBackwardKeys{.d_key = d_heads.key,
                                        .d_value = d_heads.value,
                                        .d_key_projection = d_weights.linformer_key,
                                        .d_value_projection = d_weights.linformer_value,
                                        .keys = keys_of(pass, weights, heads),
                                        .d_projected = d_projected.sums()});
  pass.arena.rewind_to(mark);
}

}  // namespace longscan

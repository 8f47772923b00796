// A transformer, forward and backward over a line of any length.
//
// A line is worked through in segments. Forward keeps of a segment only the states that came before
// this rank's shard; backward goes through the segments in reverse, visits each again and needs no
// communication to do so. Memory is bounded by the segment. A line of one segment visits nothing
// twice. Layers keep their activations from forward to backward, unless the model is reversible.
// (Exact softmax keeps nothing of other ranks: its keys and values are sent on every visit.)
#pragma once

#include <functional>
#include <map>
#include <span>
#include <variant>
#include <vector>

#include "dist/block_exchange.h"
#include "dist/state_exchange.h"
#include "kernels/host_copy.h"
#include "model/attention_matrix.h"
#include "model/layer_states.h"
#include "model/parameters.h"
#include "model/pass.h"
#include "model/random_features.h"
#include "model/residual_layers.h"
#include "model/reversible_layers.h"

namespace longscan {

/// Sums over tokens with a target.
struct LossTotals {
  double loss = 0;     ///< nats
  double correct = 0;  ///< targets that had the largest logit
  double tokens = 0;

  /// Of three or more numbers in host memory, as CrossEntropy fills them.
  static LossTotals from(const Tensor& sums) {
    const auto* numbers = sums.as<double>();
    return {.loss = numbers[0], .correct = numbers[1], .tokens = numbers[2]};
  }
};

class Transformer {
 public:
  /// `group`: the ranks that share a line. It and `device` must outlive the object. Throws usage
  /// when the options are out of range.
  Transformer(const ModelOptions& options, Device& device, Communicator& group);

  const ModelOptions& options() const { return options_; }

  /// Tokens whose logits are in memory at once.
  static std::int64_t tokens_with_logits(const ModelOptions& options, const Device& device);

  /// Random features as a training run of this seed has them after so many optimizer steps (see
  /// RandomFeatures::draw). Must be called before anything else where a layer has some.
  void draw_features(std::uint64_t seed, std::int64_t steps) { features_.draw(seed, steps); }
  const RandomFeatures& features() const { return features_; }

  /// Adds the gradient of the SUM of this rank's losses to `d_weights`, and the sums of this rank's
  /// shards to `totals`, [3] f64 as CrossEntropy fills them, without waiting for the device.
  /// Collective over the group. `segments`: this rank's shards of the line, one a segment, the same
  /// number on every rank; shards of a segment follow each other in the order of the ranks. Throws
  /// usage when there are several and the options do not take them.
  void train(const Weights& weights, const Weights& d_weights, const Tensor& totals,
             std::span<const Shard> segments, const DropoutPlan& dropout);

  /// The sums of this rank's shards without gradients or dropout. Collective over the group.
  LossTotals evaluate(const Weights& weights, std::span<const Shard> segments);

  /// By a group of one rank: shows the implicit attention matrices of `layers` on a shard, layer
  /// after layer, those of some heads, as attention_matrix makes them, in host memory. They live
  /// until `see` returns.
  void attention_matrices(
      const Weights& weights, const Shard& shard, std::span<const std::int64_t> layers,
      HeadRange heads, const std::function<void(std::int64_t layer, const Tensor& matrices)>& see);

  /// For generation, by a group of one rank: takes a prompt in, in parallel, which where a layer
  /// has exact softmax has no masked tokens. Returns the logits behind its last token, [1,
  /// vocabulary] in host memory; `states()` then hold the prompt. The tensor lives until the next
  /// call.
  Tensor prompt(const Weights& weights, const Shard& prompt);
  /// One more token at constant cost. Returns its logits, [1, vocabulary] in host memory, which
  /// live until the next call.
  Tensor step(const Weights& weights, std::int32_t token, std::int64_t position);
  /// The state of every layer behind the last token of `prompt` or `step`; may be saved and put
  /// back. Layers with exact softmax have none, but remember all tokens.
  std::span<const Tensor> states() const { return states_.carries(); }

  /// Bytes that activations have taken so far, at most, beside the states of layers.
  std::int64_t activation_bytes() const { return arena_.bytes(); }

 private:
  Pass begin_pass(const Shard& shard, const DropoutPlan& dropout);
  AttentionLink link(std::int64_t layer, std::int64_t segment, const SegmentBorders& borders,
                     bool first_visit);
  /// Of every layer.
  LinkOf links(std::int64_t segment, const SegmentBorders& borders, bool first_visit);
  template <class Body>
  decltype(auto) with_layers(const Body& body) {
    return std::visit(body, layers_);
  }
  /// Everything that decides which operations a visit of train runs and on what; empty where that
  /// never comes again.
  using Visit = std::vector<std::int64_t>;
  Visit visit_of(const Pass& pass, const Weights& weights, const Weights& d_weights,
                 const Tensor& totals, std::int64_t segment, const SegmentBorders& borders,
                 bool backward, bool first_visit) const;
  void replay(const Visit& visit, const std::function<void()>& body);
  Tensor embed(Pass& pass, const Weights& weights);
  void visit_for_states(Pass& pass, const Weights& weights, std::int64_t segment,
                        const SegmentBorders& borders);
  void visit(Pass& pass, const Weights& weights, std::int64_t segment,
             const SegmentBorders& borders, bool first_visit);
  void backward(Pass& pass, const Weights& weights, const Weights& d_weights, const Tensor& totals,
                std::int64_t segment, const SegmentBorders& borders);
  /// Adds to `totals`; with `d_weights` also gives the gradient with respect to the last norm's
  /// output.
  Tensor loss(Pass& pass, const Weights& weights, const Weights* d_weights, const Tensor& totals);
  /// In host memory.
  Tensor logits_of_last(Pass& pass, const Weights& weights, const Tensor& normed);
  std::vector<SegmentBorders> borders_of(std::span<const Shard> segments);

  ModelOptions options_;
  Device& device_;
  Communicator& group_;
  StateExchange exchange_;
  BlockExchange blocks_;
  LayerStates states_;
  std::vector<KeyValueCache> caches_;  // one a layer
  RandomFeatures features_;
  Arena arena_{device_};
  std::map<Visit, Recording> recordings_;
  HostCopy host_copy_;  // of logits, matrices or totals
  std::variant<ResidualLayers, ReversibleLayers> layers_;
  NormKept kept_norm_;
  Buffer totals_memory_;
  Tensor totals_;  // of an evaluation: [3] f64, as CrossEntropy fills them
};

}  // namespace longscan

// Reversible layers against the same streams with every activation stored.
#include "model/reversible_layers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "dist/thread_communicator.h"
#include "kernels/elementwise.h"
#include "model/layer_states.h"
#include "model/random_features.h"
#include "tests/support/lines.h"
#include "tests/support/reference.h"

namespace longscan::test {
namespace {

constexpr std::int32_t kVocabulary = 9;
constexpr std::int64_t kTokens = 67;

ModelOptions deep_model(AttentionKind kind, bool causal) {
  return {.vocabulary = kVocabulary,
          .width = 12,
          .layers = 5,
          .heads = 2,
          .hidden = 20,
          .positions = Positions::none,
          .longest_document = kTokens,
          .causal = causal,
          .reversible = true,
          .attention = {.kind = kind, .features = 9, .projected_length = 7},
          .dtype = DType::f64};
}

// Everything that layers need to be called, on one rank, with one line of several documents.
class Bench {
 public:
  Bench(const ModelOptions& options, double dropout, Communicator& group)
      : options_(options),
        exchange_(group, device_),
        blocks_(group, device_),
        states_(options_, device_),
        features_(options_, device_),
        line_(random_line(kTokens, kVocabulary, {9, 10, 30})),
        shard_(line_, 0, kTokens),
        borders_({borders_of_shard(kTokens, shard_.shard.document_starts)}, false, false),
        parameters_(options_, device_),
        pass_{.device = device_,
              .arena = arena_,
              .options = options_,
              .shard = shard_.shard,
              .line = tensors_of(shard_.shard, options_, device_, line_memory_),
              .dropout = {.rate = dropout, .seed = 2, .line = 4},
              .rotary_table = {}} {
    features_.draw(3, 0);
    parameters_.initialize(11);
    auto* values = parameters_.flat().as<double>();
    for (std::int64_t i = 0; i < parameters_.flat().size(); ++i) {
      values[i] = i < parameters_.decayed() ? 20 * values[i]
                                            : values[i] + 0.1 * std::sin(static_cast<double>(i));
    }
    states_.prepare(1);
  }

  Pass& pass() { return pass_; }
  Device& device() { return device_; }
  const ModelOptions& options() const { return options_; }
  const std::vector<LayerWeights>& weights() const { return parameters_.weights().layers; }
  LinkOf links(bool first_visit) {
    return [this, first_visit](std::size_t index) {
      const auto layer = static_cast<std::int64_t>(index);
      return AttentionLink{.attention = options_.attention_of(layer),
                           .projection = features_.projection(layer),
                           .states = {.exchange = exchange_,
                                      .borders = borders_,
                                      .before = states_.before(0, layer),
                                      .behind = states_.behind(layer),
                                      .carry = states_.carry(layer),
                                      .d_carry = states_.d_carry(layer),
                                      .first_visit = first_visit},
                           .blocks = blocks_,
                           .cache = cache_};
    };
  }

 private:
  ModelOptions options_;
  Device device_ = Device::cpu(1);
  StateExchange exchange_;
  BlockExchange blocks_;
  KeyValueCache cache_;
  LayerStates states_;
  RandomFeatures features_;
  Arena arena_{device_};
  Arena line_memory_{device_};  // which nobody rewinds
  Line line_;
  OwnedShard shard_;
  SegmentBorders borders_;
  Parameters parameters_;
  Pass pass_;
};

// What comes of the embedding and a gradient with respect to `out`, beside that of the parameters.
struct Result {
  OwnedTensor out;
  OwnedTensor d_embedded;
};

// x1 and x2 of every layer stay, as does all that its branches keep.
Result stored(Bench& bench, const OwnedTensor& embedded, const OwnedTensor& d_out,
              const std::vector<LayerWeights>& d_weights) {
  Pass& pass = bench.pass();
  const std::vector<LayerWeights>& weights = bench.weights();
  const std::int64_t width = bench.options().width;
  std::vector<AttentionKept> attention(weights.size());
  std::vector<MlpKept> mlp(weights.size());
  const auto sum = [&](const Tensor& a, const Tensor& b) {
    const Tensor out = pass.take(width);
    for (std::int64_t i = 0; i < out.size(); ++i) {
      out.as<double>()[i] = a.as<double>()[i] + b.as<double>()[i];
    }
    return out;
  };
  Tensor x1 = embedded;
  Tensor x2 = embedded;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto site = static_cast<std::int64_t>(2 * i + 1);
    x1 = sum(x1, attention_forward(pass, weights[i].attention, attention[i], x2,
                                   bench.links(true)(i), site));
    x2 = sum(x2, mlp_forward(pass, weights[i].mlp, mlp[i], x1, site + 1));
  }
  Result result{OwnedTensor(DType::f64, {kTokens, width}),
                OwnedTensor(DType::f64, {kTokens, width})};
  OwnedTensor d_x1(DType::f64, {kTokens, width});
  OwnedTensor d_x2(DType::f64, {kTokens, width});
  for (std::int64_t i = 0; i < d_out.size(); ++i) {
    result.out.set(i, (x1.as<double>()[i] + x2.as<double>()[i]) / 2);
    d_x1.set(i, d_out.get(i) / 2);
    d_x2.set(i, d_out.get(i) / 2);
  }
  for (std::size_t i = weights.size(); i-- > 0;) {
    const auto site = static_cast<std::int64_t>(2 * i + 1);
    mlp_backward(pass, weights[i].mlp, d_weights[i].mlp, mlp[i], d_x2, d_x1, site + 1);
    attention_backward(pass, weights[i].attention, d_weights[i].attention, attention[i], d_x1, d_x2,
                       bench.links(false)(i), site);
  }
  for (std::int64_t i = 0; i < d_out.size(); ++i) {
    result.d_embedded.set(i, d_x1.get(i) + d_x2.get(i));
  }
  return result;
}

// The largest difference, relative to the largest number of `truth`.
double difference(const double* values, const double* truth, std::int64_t size) {
  double largest = 0;
  double furthest = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    largest = std::max(largest, std::abs(truth[i]));
    furthest = std::max(furthest, std::abs(values[i] - truth[i]));
  }
  return largest > 0 ? furthest / largest : furthest;
}

void expect_equal_to_stored(const ModelOptions& options, double dropout) {
  run_ranks(1, [&](Communicator& group) {
    Bench bench(options, dropout, group);
    const std::int64_t width = options.width;
    const OwnedTensor embedded = OwnedTensor::random(DType::f64, {kTokens, width}, 1);
    const OwnedTensor d_out = OwnedTensor::random(DType::f64, {kTokens, width}, 2);
    Parameters truth_gradient(options, bench.device());
    const Result truth = stored(bench, embedded, d_out, truth_gradient.weights().layers);

    const OwnedTensor stream(DType::f64, {kTokens, width}, embedded.values());
    const OwnedTensor d_stream(DType::f64, {kTokens, width}, d_out.values());
    Parameters gradient(options, bench.device());
    ReversibleLayers layers;
    const Tensor out = layers.forward(bench.pass(), bench.weights(), stream, bench.links(true));
    const auto data = [](const Tensor& tensor) { return tensor.as<double>(); };
    EXPECT_LT(difference(data(out), data(truth.out), out.size()), 1e-13);
    EXPECT_GT(difference(data(stream), data(embedded), out.size()), 0.3) << "layers do nothing";
    layers.backward(bench.pass(), bench.weights(), gradient.weights().layers, d_stream,
                    bench.links(false));
    EXPECT_LT(difference(data(stream), data(embedded), out.size()), 1e-10) << "is not undone";
    EXPECT_LT(difference(data(d_stream), data(truth.d_embedded), out.size()), 1e-11);
    for (std::size_t i = 0; i < gradient.list().size(); ++i) {
      const auto& [name, tensor] = gradient.list()[i];
      const Tensor& expected = truth_gradient.list()[i].tensor;
      EXPECT_LT(difference(data(tensor), data(expected), tensor.size()), 1e-11) << name;
    }
  });
}

TEST(ReversibleLayers, GradientIsThatOfStoredActivations) {
  for (const double dropout : {0.0, 0.3}) {
    for (const bool causal : {true, false}) {
      for (const AttentionKind kind : {AttentionKind::elu1, AttentionKind::favor_softmax,
                                       AttentionKind::softmax, AttentionKind::linformer}) {
        if (causal && kind == AttentionKind::linformer) continue;
        SCOPED_TRACE(std::string(name_of(kind)) + (causal ? " causal" : " bidirectional"));
        expect_equal_to_stored(deep_model(kind, causal), dropout);
      }
    }
  }
}

TEST(ReversibleLayers, GradientIsThatOfStoredActivationsInHybrids) {
  ModelOptions options = deep_model(AttentionKind::elu1, true);
  options.mlp = MlpKind::swiglu;
  options.norm = NormKind::rms_norm;
  options.layer_attention.assign(5, options.attention);
  options.layer_attention[1].kind = AttentionKind::identity;
  options.layer_attention[2].kind = AttentionKind::favor_relu;
  options.layer_attention[3].kind = AttentionKind::favor_hyperbolic;
  expect_equal_to_stored(options, 0.3);
}

}  // namespace
}  // namespace longscan::test

// The implicit matrix of every kind of attention against its definition in double.
#include "model/attention_matrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numeric>

#include "tests/support/lines.h"
#include "tests/support/model_case.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::Line;
using test::OwnedShard;
using test::OwnedTensor;
using test::random_line;
using test::with_model;

using Vector = std::vector<double>;

constexpr std::int64_t kTokens = 43;
constexpr std::int64_t kHeads = 3;
constexpr std::int64_t kDim = 5;  // several blocks of columns, the last one not full

struct Form {
  AttentionKind kind;
  bool causal;
  bool masked = false;
};

std::vector<Form> all_forms() {
  std::vector<Form> forms;
  for (const AttentionKind kind :
       {AttentionKind::elu1, AttentionKind::relu, AttentionKind::favor_softmax,
        AttentionKind::favor_hyperbolic, AttentionKind::favor_relu, AttentionKind::linformer,
        AttentionKind::softmax, AttentionKind::identity}) {
    for (const bool causal : {true, false}) {
      if (kind == AttentionKind::linformer && causal) continue;
      for (const bool masked : {false, true}) forms.push_back({kind, causal, masked});
    }
  }
  return forms;
}

// What the layer has worked on and made of it, copied out; each [tokens, heads, dim].
struct Seen {
  Vector query, key, value, attended;
  Vector matrix;                          // [heads, tokens, tokens]
  Vector projection;                      // of random features, [features, dim]
  Vector linformer_key, linformer_value;  // [projected_length, tokens]
};

Vector numbers_of(const Tensor& tensor) {
  const auto number = [&](std::int64_t place) {
    return tensor.dtype == DType::f32 ? static_cast<double>(tensor.as<float>()[place])
                                      : tensor.as<double>()[place];
  };
  Vector numbers;
  for (std::int64_t i = 0; i < tensor.shape[0]; ++i) {
    for (std::int64_t j = 0; j < tensor.shape[1]; ++j) {
      for (std::int64_t k = 0; k < (tensor.rank == 3 ? tensor.shape[2] : 1); ++k) {
        numbers.push_back(number(i * tensor.stride[0] + j * tensor.stride[1] + k));
      }
    }
  }
  return numbers;
}

ModelOptions options_of(const Form& form, DType dtype) {
  return {.vocabulary = 11,
          .width = kHeads * kDim,
          .layers = 1,
          .heads = kHeads,
          .hidden = 8,
          .positions = Positions::none,
          .longest_document = kTokens,
          .causal = form.causal,
          .attention = {.kind = form.kind, .features = 7, .projected_length = 6},
          .dtype = dtype};
}

Line line_of(const Form& form, std::vector<std::int64_t> starts) {
  Line line = random_line(kTokens, 11, std::move(starts));
  if (!form.masked) return line;
  for (std::int64_t i = 0; i < kTokens; ++i) line.attended.push_back(i % 4 == 2 ? 0 : 1);
  return line;
}

// One layer alone, as a transformer calls it, on random inputs.
Seen look_at(const Form& form, const Line& line, DType dtype) {
  Seen seen;
  run_ranks(1, [&](Communicator& group) {
    const ModelOptions options = options_of(form, dtype);
    Device device = Device::cpu(2);
    Parameters parameters(options, device);
    parameters.initialize(3);
    // Queries and keys of size one, so that attention is far from uniform.
    const AttentionWeights& weights = parameters.weights().layers[0].attention;
    const OwnedTensor joint =
        OwnedTensor::random(dtype, {3 * options.width, options.width}, 5,
                            1 / std::sqrt(static_cast<double>(options.width)));
    std::memcpy(weights.query_key_value_weight.data, joint.view().data,
                static_cast<std::size_t>(joint.view().bytes()));
    RandomFeatures features(options, device);
    features.draw(4, 0);
    const OwnedShard shard(line, 0, line.size());
    Arena arena(device);
    const AttentionObserver observer = [&](Pass& pass, const AttentionWeights& w,
                                           const AttentionHeads& heads, const AttentionLink& link) {
      seen.matrix = numbers_of(attention_matrix(pass, w, heads, link, {0, kHeads}));
      seen.query = numbers_of(heads.query);
      seen.key = numbers_of(heads.key);
      seen.value = numbers_of(heads.value);
      if (link.projection.present()) seen.projection = numbers_of(link.projection);
      if (form.kind != AttentionKind::linformer) return;
      seen.linformer_key = numbers_of(w.linformer_key);
      seen.linformer_value = numbers_of(w.linformer_value);
    };
    Pass pass{.device = device,
              .arena = arena,
              .options = options,
              .shard = shard.shard,
              .line = tensors_of(shard.shard, options, device, arena),
              .dropout = {},
              .dropout_step = {},
              .rotary_table = {},
              .observer = &observer};
    LayerStates states(options, device);
    states.prepare(1);
    StateExchange exchange(group, device);
    BlockExchange blocks(group, device);
    KeyValueCache cache;
    const SegmentBorders borders({borders_of_shard(kTokens, shard.starts)}, false, false);
    const AttentionLink link{.attention = options.attention,
                             .projection = features.projection(0),
                             .states = {.exchange = exchange,
                                        .borders = borders,
                                        .before = states.before(0, 0),
                                        .behind = states.behind(0),
                                        .carry = states.carry(0)},
                             .blocks = blocks,
                             .cache = cache};
    AttentionKept kept;
    const OwnedTensor in = OwnedTensor::random(dtype, {kTokens, options.width}, 6);
    attention_forward(pass, weights, kept, in, link, 0);
    seen.attended = numbers_of(kept.attended.split_heads(kHeads));
  });
  return seen;
}

// phi(x), without the factors that cancel.
Vector features_of(AttentionKind kind, const Vector& x, const Vector& projection) {
  Vector features;
  if (kind == AttentionKind::elu1 || kind == AttentionKind::relu) {
    for (const double number : x) {
      const double above = std::max(number, 0.0);
      features.push_back(kind == AttentionKind::relu ? above + 1e-3
                         : number > 0                ? number + 1
                                                     : std::exp(number));
    }
    return features;
  }
  const double scale = kind == AttentionKind::favor_relu ? 1 : std::pow(x.size(), -0.25);
  const std::size_t rows = projection.size() / x.size();
  double half_square = 0;
  for (const double number : x) half_square += number * scale * number * scale / 2;
  for (std::size_t row = 0; row < rows; ++row) {
    double product = 0;
    for (std::size_t d = 0; d < x.size(); ++d) {
      product += projection[row * x.size() + d] * x[d] * scale;
    }
    if (kind == AttentionKind::favor_relu) {
      features.push_back(std::max(product, 0.0) / std::sqrt(static_cast<double>(rows)) + 1e-3);
    } else {
      features.push_back(std::exp(product - half_square));
    }
    if (kind == AttentionKind::favor_hyperbolic) {
      features.push_back(std::exp(-product - half_square));
    }
  }
  return features;
}

Vector token_of(const Vector& numbers, std::int64_t token, std::int64_t head) {
  const auto first = numbers.begin() + (token * kHeads + head) * kDim;
  return {first, first + kDim};
}

double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

Vector shares_of(Vector weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight = sum > 0 ? weight / sum : 0;
  return weights;
}

bool counts(const Line& line, std::int64_t key) {
  return line.attended.empty() || line.attended[static_cast<std::size_t>(key)] != 0;
}

std::int64_t document_of(const Line& line, std::int64_t token) {
  return token - line.positions[static_cast<std::size_t>(token)];
}

bool sees(const Form& form, const Line& line, std::int64_t query, std::int64_t key) {
  if (form.kind == AttentionKind::identity) return query == key;
  return document_of(line, query) == document_of(line, key) && counts(line, key) &&
         (!form.causal || key <= query);
}

// A row of softmax(Q (E K)^T / sqrt(dim)) F.
Vector linformer_row(const Seen& seen, const Line& line, const Form& form, std::int64_t query,
                     std::int64_t head) {
  const std::size_t length = seen.linformer_key.size() / kTokens;
  const Vector q = token_of(seen.query, query, head);
  const auto entry = [&](const Vector& projection, std::size_t row, std::int64_t key) {
    return projection[row * kTokens + static_cast<std::size_t>(key - document_of(line, key))];
  };
  Vector weights;
  for (std::size_t row = 0; row < length; ++row) {
    double score = 0;
    for (std::int64_t key = 0; key < kTokens; ++key) {
      if (!sees(form, line, query, key)) continue;
      score += entry(seen.linformer_key, row, key) * dot(q, token_of(seen.key, key, head));
    }
    weights.push_back(std::exp(score / std::sqrt(static_cast<double>(kDim))));
  }
  weights = shares_of(weights);
  Vector result(kTokens);
  for (std::int64_t key = 0; key < kTokens; ++key) {
    if (!sees(form, line, query, key)) continue;
    for (std::size_t row = 0; row < length; ++row) {
      result[static_cast<std::size_t>(key)] += weights[row] * entry(seen.linformer_value, row, key);
    }
  }
  return result;
}

Vector defined_row(const Seen& seen, const Line& line, const Form& form, std::int64_t query,
                   std::int64_t head) {
  if (form.kind == AttentionKind::linformer) return linformer_row(seen, line, form, query, head);
  const Vector q = token_of(seen.query, query, head);
  Vector weights;
  for (std::int64_t key = 0; key < kTokens; ++key) {
    const Vector k = token_of(seen.key, key, head);
    double weight = 1;
    if (form.kind == AttentionKind::softmax) {
      weight = std::exp(dot(q, k) / std::sqrt(static_cast<double>(kDim)));
    } else if (form.kind != AttentionKind::identity) {
      weight = dot(features_of(form.kind, q, seen.projection),
                   features_of(form.kind, k, seen.projection));
    }
    weights.push_back(sees(form, line, query, key) ? weight : 0);
  }
  return shares_of(weights);
}

std::string describe(const Form& form) {
  return std::string(name_of(form.kind)) + (form.causal ? "_causal" : "_bidirectional") +
         (form.masked ? "_masked" : "");
}

const std::vector<std::int64_t> kStarts = {0, 9, 10, 31};

class AttentionMatrix : public testing::TestWithParam<Form> {
 protected:
  static Vector row_of(const Seen& seen, std::int64_t head, std::int64_t query) {
    const auto first = seen.matrix.begin() + (head * kTokens + query) * kTokens;
    return {first, first + kTokens};
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, AttentionMatrix, testing::ValuesIn(all_forms()),
                         [](const auto& form) { return describe(form.param); });

TEST_P(AttentionMatrix, IsThatOfTheDefinition) {
  for (const auto& starts : {std::vector<std::int64_t>{0}, kStarts}) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      const Line line = line_of(GetParam(), starts);
      const Seen seen = look_at(GetParam(), line, dtype);
      for (std::int64_t head = 0; head < kHeads; ++head) {
        for (std::int64_t query = 0; query < kTokens; ++query) {
          const Vector expected = defined_row(seen, line, GetParam(), query, head);
          const Vector row = row_of(seen, head, query);
          for (std::int64_t key = 0; key < kTokens; ++key) {
            const auto place = static_cast<std::size_t>(key);
            ASSERT_NEAR(row[place], expected[place], dtype == DType::f64 ? 1e-12 : 2e-5)
                << "head " << head << ", " << query << " attends to " << key;
          }
        }
      }
    }
  }
}

TEST_P(AttentionMatrix, TimesTheValuesIsWhatTheHeadsAttendTo) {
  const Seen seen = look_at(GetParam(), line_of(GetParam(), kStarts), DType::f64);
  for (std::int64_t head = 0; head < kHeads; ++head) {
    for (std::int64_t query = 0; query < kTokens; ++query) {
      const Vector row = row_of(seen, head, query);
      Vector sum(kDim);
      for (std::int64_t key = 0; key < kTokens; ++key) {
        const Vector value = token_of(seen.value, key, head);
        for (std::size_t d = 0; d < kDim; ++d) {
          sum[d] += row[static_cast<std::size_t>(key)] * value[d];
        }
      }
      const Vector attended = token_of(seen.attended, query, head);
      for (std::size_t d = 0; d < kDim; ++d) ASSERT_NEAR(attended[d], sum[d], 1e-12);
    }
  }
}

// What Linformer mixes with learned weights has no shares.
std::vector<Form> forms_with_shares() {
  std::vector<Form> forms = all_forms();
  std::erase_if(forms, [](const Form& form) { return form.kind == AttentionKind::linformer; });
  return forms;
}

class AttentionShares : public AttentionMatrix {};
INSTANTIATE_TEST_SUITE_P(Kinds, AttentionShares, testing::ValuesIn(forms_with_shares()),
                         [](const auto& form) { return describe(form.param); });

TEST_P(AttentionShares, AreOfWhatATokenSeesAndSumToOne) {
  const Line line = line_of(GetParam(), kStarts);
  const Seen seen = look_at(GetParam(), line, DType::f32);
  for (std::int64_t head = 0; head < kHeads; ++head) {
    for (std::int64_t query = 0; query < kTokens; ++query) {
      const Vector row = row_of(seen, head, query);
      bool sees_some = false;
      for (std::int64_t key = 0; key < kTokens; ++key) {
        const bool seen_key = sees(GetParam(), line, query, key);
        const double share = row[static_cast<std::size_t>(key)];
        ASSERT_GE(share, 0);
        if (!seen_key) {
          ASSERT_EQ(share, 0) << query << " attends to " << key;
        }
        sees_some = sees_some || seen_key;
      }
      ASSERT_NEAR(std::accumulate(row.begin(), row.end(), 0.0), sees_some ? 1 : 0, 1e-5) << query;
    }
  }
}

ModelOptions hybrid() {
  return {.vocabulary = 11,
          .width = 12,
          .layers = 4,
          .heads = 2,
          .hidden = 16,
          .layer_attention = {{.kind = AttentionKind::favor_softmax, .features = 8},
                              {.kind = AttentionKind::softmax},
                              {},
                              {.kind = AttentionKind::identity}},
          .dtype = DType::f64};
}

TEST(AttentionMatrices, OfATransformerAreThoseOfItsLayersInOrder) {
  const Line line = random_line(30, 11, {0});
  const OwnedShard shard(line, 0, line.size());
  with_model(hybrid(), [&](Device&, Parameters& parameters, Transformer& transformer) {
    std::map<std::int64_t, Vector> all;
    const auto into = [&](std::map<std::int64_t, Vector>& seen) {
      return [&](std::int64_t layer, const Tensor& matrices) {
        EXPECT_TRUE(seen.empty() || seen.rbegin()->first < layer);
        seen[layer] = numbers_of(matrices);
      };
    };
    const std::int64_t layers[] = {0, 1, 2, 3};
    transformer.attention_matrices(parameters.weights(), shard.shard, layers, {0, 2}, into(all));
    ASSERT_EQ(all.size(), 4U);
    for (std::int64_t i = 0; i < 2 * 30 * 30; ++i) {
      const bool diagonal = i / 30 % 30 == i % 30;
      EXPECT_EQ(all[3][static_cast<std::size_t>(i)], diagonal ? 1 : 0);
    }
    EXPECT_NE(all[0], all[1]);
    EXPECT_NE(all[1], all[2]);
    std::map<std::int64_t, Vector> some;
    const std::int64_t chosen[] = {2, 0};
    transformer.attention_matrices(parameters.weights(), shard.shard, chosen, {0, 2}, into(some));
    EXPECT_EQ(some, (std::map<std::int64_t, Vector>{{0, all[0]}, {2, all[2]}}));
    std::map<std::int64_t, Vector> second;
    transformer.attention_matrices(parameters.weights(), shard.shard, chosen, {1, 2}, into(second));
    ASSERT_EQ(second.size(), 2U);
    for (const std::int64_t layer : chosen) {
      EXPECT_EQ(second[layer], Vector(all[layer].begin() + 30 * 30, all[layer].end()));
    }
  });
}

TEST(AttentionMatrices, LeaveTheModelAsItWas) {
  const Line line = random_line(30, 11, {0, 12});
  const OwnedShard shard(line, 0, line.size());
  with_model(hybrid(), [&](Device&, Parameters& parameters, Transformer& transformer) {
    const double before = transformer.evaluate(parameters.weights(), {&shard.shard, 1}).loss;
    const std::int64_t layers[] = {0, 2};
    transformer.attention_matrices(parameters.weights(), shard.shard, layers, {0, 2},
                                   [](std::int64_t, const Tensor&) {});
    EXPECT_EQ(transformer.evaluate(parameters.weights(), {&shard.shard, 1}).loss, before);
  });
}

}  // namespace
}  // namespace longscan

// States of linear attention: shards that exchange them compute what one shard of all tokens does.
#include <gtest/gtest.h>

#include "kernels/state.h"
#include "tests/support/linear_attention_case.h"

namespace longscan::test {
namespace {

using Operands = AttentionOperands;
using Tensors = AttentionTensors<double>;

std::vector<double> both(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> all = a;
  all.insert(all.end(), b.begin(), b.end());
  return all;
}

// Two shards of a line, each with what the other one's tokens add.
void expect_two_shards_are_one(const Operands& line, std::int64_t cut, int threads) {
  SCOPED_TRACE(testing::Message() << describe(line.form) << ", " << line.shape.tokens
                                  << " tokens cut at " << cut << ", " << threads << " threads");
  const auto& starts = line.shape.starts;
  const bool crosses = cut > 0 && cut < line.shape.tokens &&
                       std::find(starts.begin(), starts.end(), cut) == starts.end();
  Tensors whole(line, threads);
  whole.run();
  Tensors first(line.part(0, cut), threads);
  Tensors second(line.part(cut, line.shape.tokens), threads);
  // What crosses: from the back of the first shard, and from the front of the second.
  const Tensor before = crosses ? first.sum(ShardSide::back) : Tensor{};
  const Tensor behind = crosses && !line.form.causal ? second.sum(ShardSide::front) : Tensor{};
  first.forward({}, behind);
  second.forward(before, {});
  const Tensor d_before =
      crosses && !line.form.causal ? first.gradient_sum(ShardSide::back) : Tensor{};
  const Tensor d_behind = crosses ? second.gradient_sum(ShardSide::front) : Tensor{};
  first.backward({.behind = behind, .gradients_behind = d_behind});
  second.backward({.before = before, .gradients_before = d_before});
  const auto compare = [&](const Tensor& a, const Tensor& b, const Tensor& all, const char* what) {
    EXPECT_LT(worst_relative(both(first.get(a), second.get(b)), whole.get(all)), 1e-12) << what;
  };
  compare(first.out, second.out, whole.out, "out");
  compare(first.d_query, second.d_query, whole.d_query, "d_query");
  compare(first.d_key, second.d_key, whole.d_key, "d_key");
  compare(first.d_value, second.d_value, whole.d_value, "d_value");
}

TEST(LinearAttentionState, TwoShardsAreOne) {
  for (const AttentionForm& form : all_forms()) {
    for (const double scale : {1.0, 6.0}) {
      const Operands line({133, 3, 8, 5, {20, 21, 90, 132}}, form, scale);
      for (const std::int64_t cut : {0, 1, 20, 21, 22, 64, 90, 132, 133}) {
        expect_two_shards_are_one(line, cut, 1);
      }
    }
    // One document, and heads cut in parts.
    const Operands line({700, 1, 8, 5, {}}, form);
    for (const int threads : {1, 2, 3}) expect_two_shards_are_one(line, 310, threads);
  }
}

TEST(LinearAttentionState, IsTheSumOfItsDefinition) {
  for (const AttentionForm& form : all_forms()) {
    const Operands o({75, 2, 6, 4, {10, 60}}, form);
    for (const ShardSide side : {ShardSide::front, ShardSide::back}) {
      Tensors tensors(o, 2);
      const Tensor state = tensors.sum(side);
      const bool exponential = tensors.input.feature_map.is_exponential();
      const auto [begin, end] = side == ShardSide::front ? std::pair{0, 10} : std::pair{60, 75};
      for (std::int64_t h = 0; h < 2; ++h) {
        for (std::int64_t f = 0; f < state.shape[1]; ++f) {
          const double* row = state.as<double>() + h * state.stride[0] + f * state.stride[1];
          for (std::int64_t d = 0; d <= 4; ++d) {
            double sum = 0;
            for (std::int64_t j = begin; j < end; ++j) {
              if (o.attended[j] == 0) continue;
              const double phi = o.features(&o.key[(j * 2 + h) * 6])[f];
              sum +=
                  (exponential ? std::exp(phi) : phi) * (d == 4 ? 1 : o.value[(j * 2 + h) * 4 + d]);
            }
            const double scale = exponential ? std::exp(row[5]) : 1;
            EXPECT_NEAR(row[d] * scale, sum, 1e-12 * std::max(1.0, std::abs(sum)))
                << describe(form);
          }
        }
      }
    }
  }
}

TEST(LinearAttentionState, OfNoTokensIsEmpty) {
  for (const AttentionForm& form : all_forms()) {
    Tensors tensors(Operands({0, 2, 4, 4, {}}, form), 2);
    const Tensor state = tensors.sum(ShardSide::back);
    const bool exponential = tensors.input.feature_map.is_exponential();
    for (std::int64_t i = 0; i < state.size(); ++i) {
      const bool exponent = exponential && i % state.shape[2] == 5;
      EXPECT_EQ(state.as<double>()[i], exponent ? -INFINITY : 0);
    }
    tensors.run();
  }
}

}  // namespace
}  // namespace longscan::test

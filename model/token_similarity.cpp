// Sums first, quotients last, so that ranks may share the records out.
#include "model/token_similarity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace longscan {

namespace {

double number_at(const Tensor& tensor, std::int64_t index) {
  return tensor.dtype == DType::f32 ? static_cast<double>(tensor.as<float>()[index])
                                    : tensor.as<double>()[index];
}

double pearson(std::span<const double> a, std::span<const double> b) {
  const auto count = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / count;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / count;
  double squares_a = 0;
  double squares_b = 0;
  double products = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    squares_a += (a[i] - mean_a) * (a[i] - mean_a);
    squares_b += (b[i] - mean_b) * (b[i] - mean_b);
    products += (a[i] - mean_a) * (b[i] - mean_b);
  }
  return products / std::sqrt(squares_a * squares_b);
}

// From 0; equal values share the mean of theirs.
std::vector<double> ranks_of(std::span<const double> values) {
  std::vector<double> ranks;
  for (const double value : values) {
    double below = 0;
    double equal = 0;
    for (const double other : values) {
      below += other < value ? 1 : 0;
      equal += other == value ? 1 : 0;
    }
    ranks.push_back(below + (equal - 1) / 2);
  }
  return ranks;
}

}  // namespace

TokenSimilarity::TokenSimilarity(std::int64_t kinds, std::int64_t heads)
    : kinds_(kinds), heads_(heads), sums_(static_cast<std::size_t>(heads * 2 * kinds * kinds)) {}

void TokenSimilarity::add(std::int64_t first, const Tensor& matrices,
                          std::span<const std::int32_t> kinds, bool causal) {
  const auto tokens = std::ssize(kinds);
  require(matrices.rank == 3 && matrices.shape[1] == tokens && matrices.shape[2] == tokens,
          "TokenSimilarity.matrices", "[some, tokens, tokens]");
  require(first >= 0 && first + matrices.shape[0] <= heads_, "TokenSimilarity.first",
          "leaves room for the matrices' heads");
  require_float("TokenSimilarity.matrices", matrices);
  require_dense("TokenSimilarity.matrices", matrices);
  const auto counts = [&](std::int32_t kind) { return kind >= 0 && kind < kinds_; };
  for (std::int64_t row = 0; row < matrices.shape[0] * tokens; ++row) {
    const std::int64_t query = row % tokens;
    if (!counts(kinds[query])) continue;
    double* weights = &sums_[static_cast<std::size_t>(
        ((first + row / tokens) * 2 * kinds_ + kinds[query]) * kinds_)];
    double* even = weights + kinds_ * kinds_;
    const std::int64_t seen = causal ? query + 1 : tokens;
    for (std::int64_t key = 0; key < seen; ++key) {
      if (key == query || !counts(kinds[key])) continue;
      weights[kinds[key]] += number_at(matrices, row * tokens + key);
      even[kinds[key]] += 1.0 / static_cast<double>(seen);
    }
  }
}

std::vector<double> TokenSimilarity::values() const {
  TokenSimilarity whole(kinds_, 1);
  for (std::size_t i = 0; i < sums_.size(); ++i) whole.sums_[i % whole.sums_.size()] += sums_[i];
  std::vector<double> values;
  for (std::int64_t pair = 0; pair < kinds_ * kinds_; ++pair) {
    values.push_back(whole.value(0, pair / kinds_, pair % kinds_));
  }
  return values;
}

std::vector<double> TokenSimilarity::likeness() const {
  std::vector<double> likeness;
  for (std::int64_t pair = 0; pair < kinds_ * kinds_; ++pair) {
    std::vector<double> of_a;
    std::vector<double> of_b;
    for (std::int64_t place = 0; place < heads_ * kinds_; ++place) {
      const double a = value(place / kinds_, pair / kinds_, place % kinds_);
      const double b = value(place / kinds_, pair % kinds_, place % kinds_);
      if (std::isnan(a) || std::isnan(b)) continue;
      of_a.push_back(a);
      of_b.push_back(b);
    }
    likeness.push_back(pearson(of_a, of_b));
  }
  return likeness;
}

double TokenSimilarity::value(std::int64_t head, std::int64_t a, std::int64_t b) const {
  const auto place = static_cast<std::size_t>((head * 2 * kinds_ + a) * kinds_ + b);
  const double even = sums_[place + static_cast<std::size_t>(kinds_ * kinds_)];
  return even > 0 ? sums_[place] / even : std::nan("");
}

std::vector<double> symmetrized(std::span<const double> values, std::int64_t kinds) {
  std::vector<double> result;
  for (std::int64_t a = 0; a < kinds; ++a) {
    for (std::int64_t b = 0; b < kinds; ++b) {
      const double one = values[static_cast<std::size_t>(a * kinds + b)];
      const double other = values[static_cast<std::size_t>(b * kinds + a)];
      if (std::isnan(one) || std::isnan(other)) {
        result.push_back(std::isnan(one) ? other : one);
      } else {
        result.push_back((one + other) / 2);
      }
    }
  }
  return result;
}

Correlations correlate(std::span<const double> a, std::span<const double> b, std::int64_t kinds) {
  std::vector<double> of_a;
  std::vector<double> of_b;
  for (std::int64_t row = 0; row < kinds; ++row) {
    for (std::int64_t column = row + 1; column < kinds; ++column) {
      const auto pair = static_cast<std::size_t>(row * kinds + column);
      if (std::isnan(a[pair]) || std::isnan(b[pair])) continue;
      of_a.push_back(a[pair]);
      of_b.push_back(b[pair]);
    }
  }
  return {.pearson = pearson(of_a, of_b),
          .spearman = pearson(ranks_of(of_a), ranks_of(of_b)),
          .pairs = std::ssize(of_a)};
}

}  // namespace longscan

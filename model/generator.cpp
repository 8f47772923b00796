// Sampling from logits, and the loop around it.
#include "model/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/error.h"
#include "kernels/random.h"

namespace longscan {

namespace {

struct Candidate {
  std::int32_t token;
  double weight;
};

// Candidates from the most to the least likely, their weights relative to the first; ties by the
// smaller token.
std::vector<Candidate> candidates_of(const Tensor& logits, const SamplingOptions& options) {
  std::vector<Candidate> candidates;
  for (std::int64_t i = 0; i < logits.size(); ++i) {
    const double logit = logits.dtype == DType::f32 ? static_cast<double>(logits.as<float>()[i])
                                                    : logits.as<double>()[i];
    if (!std::isfinite(logit)) {
      throw Error(ErrorKind::data, {.what = fmt::format("the logit of token {} is {}", i, logit),
                                    .why = "it must be finite",
                                    .hint = "the checkpoint may come from a diverged run"});
    }
    const auto token = static_cast<std::int32_t>(i);
    if (std::find(options.banned.begin(), options.banned.end(), token) == options.banned.end()) {
      candidates.push_back({token, logit});
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; });
  return candidates;
}

// Keeps the most likely candidates whose weights make up `share` of the whole.
void keep_share(std::vector<Candidate>& candidates, double share) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  double sum = 0;
  std::size_t kept = 0;
  while (kept < candidates.size() && sum < share * total) sum += candidates[kept++].weight;
  candidates.resize(std::max<std::size_t>(kept, 1));
}

}  // namespace

void check(const SamplingOptions& options) {
  const auto demand = [](bool holds, const char* what, const char* rule) {
    if (!holds) throw Error(ErrorKind::usage, {.what = what, .why = rule});
  };
  demand(options.temperature >= 0 && std::isfinite(options.temperature),
         "the temperature is out of range", "it is 0 or more");
  demand(options.top_k >= 0, "top-k is out of range", "it is 0 (all tokens) or more");
  demand(options.top_p > 0 && options.top_p <= 1, "top-p is out of range", "it is in (0, 1]");
}

std::int32_t sample_token(const Tensor& logits, const SamplingOptions& options,
                          std::uint64_t sample, std::uint64_t place) {
  std::vector<Candidate> candidates = candidates_of(logits, options);
  require(!candidates.empty(), "sample_token.banned", "leaves a token to draw");
  if (options.temperature == 0) return candidates.front().token;
  if (options.top_k > 0 && options.top_k < static_cast<std::int64_t>(candidates.size())) {
    candidates.resize(static_cast<std::size_t>(options.top_k));
  }
  const double largest = candidates.front().weight;
  for (Candidate& candidate : candidates) {
    candidate.weight = std::exp((candidate.weight - largest) / options.temperature);
  }
  if (options.top_p < 1) keep_share(candidates, options.top_p);
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  const RandomKey key{options.seed, RandomPurpose::sample, sample};
  double left = uniform_from(random_words(key, place)[0]) * total;
  for (const Candidate& candidate : candidates) {
    left -= candidate.weight;
    if (left <= 0) return candidate.token;
  }
  return candidates.back().token;
}

std::vector<std::int32_t> Generator::generate(std::span<const std::int32_t> prompt,
                                              std::int32_t end, std::int64_t longest,
                                              const SamplingOptions& options,
                                              std::uint64_t sample) {
  check(options);
  std::vector<std::int64_t> positions(prompt.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::int64_t document_start = 0;
  Tensor logits = transformer_.prompt(weights_, {.tokens = prompt,
                                                 .targets = {},
                                                 .positions = positions,
                                                 .document_starts = {&document_start, 1}});
  std::vector<std::int32_t> tokens;
  auto position = static_cast<std::int64_t>(prompt.size());
  while (static_cast<std::int64_t>(tokens.size()) < longest) {
    const std::int32_t token = sample_token(logits, options, sample, tokens.size());
    if (token == end) break;
    tokens.push_back(token);
    if (static_cast<std::int64_t>(tokens.size()) == longest) break;  // nobody asks what follows
    logits = transformer_.step(weights_, token, position++);
  }
  return tokens;
}

}  // namespace longscan

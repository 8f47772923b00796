// Generation: a prompt taken in in parallel, then one token after the other at constant cost.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace longscan {

struct SamplingOptions {
  double temperature = 1;  ///< 0: always the most likely token
  std::int64_t top_k = 0;  ///< only the k most likely tokens; 0: all
  double top_p = 1;        ///< only the most likely tokens that together have this probability
  std::uint64_t seed = 1;
  std::vector<std::int32_t> banned;  ///< tokens that are never drawn
};

/// The next token from logits [vocabulary]. Sample `sample` at place `place` draws one random
/// number of its own. Throws usage when options are out of range, data when a logit is not finite.
std::int32_t sample_token(const Tensor& logits, const SamplingOptions& options,
                          std::uint64_t sample, std::uint64_t place);

/// Throws usage when an option is out of range.
void check(const SamplingOptions& options);

class Generator {
 public:
  /// `transformer` is of a group of one rank; both must outlive the generator.
  Generator(Transformer& transformer, const Weights& weights)
      : transformer_(transformer), weights_(weights) {}

  /// Tokens behind `prompt` (at least one token) up to and without `end`, at most `longest` of
  /// them. Sample numbers make independent samples of the same prompt.
  std::vector<std::int32_t> generate(std::span<const std::int32_t> prompt, std::int32_t end,
                                     std::int64_t longest, const SamplingOptions& options,
                                     std::uint64_t sample);

 private:
  Transformer& transformer_;
  const Weights& weights_;
};

}  // namespace longscan

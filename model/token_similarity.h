// How much tokens of one kind attend to those of another, beyond what their numbers make them
// (Choromanski et al. 2020, appendix, where kinds are amino acids).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"

namespace longscan {

/// Sums over the attention matrices of any number of heads. The similarity of kinds a and b is the
/// sum of the weights with which tokens of kind a attend to others of kind b, divided by what that
/// sum would be if each token spread its attention evenly over all that it sees: 1 is no
/// preference, whatever the lengths, the frequencies of kinds and how far tokens see. A token's
/// weight on itself is left out: it says nothing about pairs.
class TokenSimilarity {
 public:
  TokenSimilarity(std::int64_t kinds, std::int64_t heads);

  /// matrices: [some, tokens, tokens] f32 or f64, of one document and the heads from `first` on, of
  /// whatever layers. kinds: of its tokens; those outside of [0, kinds) are seen, and are in no
  /// pair.
  void add(std::int64_t first, const Tensor& matrices, std::span<const std::int32_t> kinds,
           bool causal);

  /// Everything added so far, to be summed over ranks in place.
  std::span<double> sums() { return sums_; }

  /// [kinds, kinds], row a, column b, over all heads; NaN for pairs that no token and no token it
  /// sees are of.
  std::vector<double> values() const;
  /// [kinds, kinds]: how much alike kinds a and b attend, as Pearson's correlation of what they are
  /// similar to, over heads and kinds attended to (Vig et al. 2020, "BERTology meets biology",
  /// compare kinds that are attended to over heads). NaN where one of them is not known.
  std::vector<double> likeness() const;

 private:
  /// The similarity of a pair in a head.
  double value(std::int64_t head, std::int64_t a, std::int64_t b) const;

  std::int64_t kinds_;
  std::int64_t heads_;
  // [heads, 2, kinds, kinds]: weights, then those of even attention.
  std::vector<double> sums_;
};

/// The mean of values[a, b] and values[b, a], or the one that is not NaN.
std::vector<double> symmetrized(std::span<const double> values, std::int64_t kinds);

struct Correlations {
  double pearson = 0;
  double spearman = 0;  ///< Pearson's of the ranks, ties sharing theirs
  std::int64_t pairs = 0;
};

/// Of two symmetric matrices over their pairs a < b with no NaN; NaN where one of them has the same
/// value everywhere.
Correlations correlate(std::span<const double> a, std::span<const double> b, std::int64_t kinds);

}  // namespace longscan

// The maps phi of linear attention: what a query and a key become before they are multiplied.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace longscan {

/// With W the projection, M its rows, x~ = x / dim^(1/4):
enum class FeatureKind {
  elu1,  ///< x + 1 for x > 0, else e^max(x, -41) (Katharopoulos et al. 2020, eq. 7, kept from 0 /
         ///< 0)
  relu,  ///< max(x, 0) + 1e-3
  favor_softmax,     ///< e^(W x~ - |x~|^2 / 2): FAVOR+ (Choromanski et al. 2020, lemma 1, eq. 6)
  favor_hyperbolic,  ///< [e^(W x~ - |x~|^2 / 2), e^(-W x~ - |x~|^2 / 2)] (the same, SM^hyp+)
  favor_relu,  ///< max(W x, 0) / sqrt(M) + 1e-3: generalised attention (the same, section 2.2)
};

/// A factor that all features of a query or of all keys have in common cancels in attention. So
/// favor_softmax and favor_hyperbolic go without their 1 / sqrt(M) and 1 / sqrt(2 M), and queries
/// without e^(-|x~|^2 / 2).
struct FeatureMap {
  FeatureKind kind = FeatureKind::elu1;
  Tensor projection;  ///< W, [M, dim] of the queries' type; for the favor kinds only

  /// Features of queries and keys of `dim` numbers.
  std::int64_t features(std::int64_t dim) const {
    if (!has_projection()) return dim;
    return projection.shape[0] * (kind == FeatureKind::favor_hyperbolic ? 2 : 1);
  }
  bool has_projection() const { return kind != FeatureKind::elu1 && kind != FeatureKind::relu; }
  /// Features are exponentials: sums of them are stored as multiples of e^exponent.
  bool is_exponential() const {
    return kind == FeatureKind::favor_softmax || kind == FeatureKind::favor_hyperbolic;
  }
  /// Columns of a state: the sums of v and of 1, and perhaps the exponent.
  std::int64_t state_columns(std::int64_t value_dim) const {
    return value_dim + (is_exponential() ? 2 : 1);
  }
};

}  // namespace longscan

// What a model is made of: the numbers that fix its parameters and formulas.
#pragma once

#include <cstdint>

#include "kernels/linear_attention.h"
#include "kernels/tensor.h"

namespace longscan {

enum class Positions { sinusoidal, learned, rotary, none };
enum class NormKind { layer_norm, rms_norm };
enum class MlpKind { gelu, relu, swiglu };

/// A decoder-only transformer: embedding, `layers` times [norm, attention, norm, MLP] with
/// residuals, norm, head.
struct ModelOptions {
  std::int64_t vocabulary = 0;  ///< entries of the embedding
  std::int64_t width = 256;
  std::int64_t layers = 4;
  std::int64_t heads = 4;  ///< divides width
  std::int64_t hidden = 1024;
  Positions positions = Positions::rotary;
  std::int64_t longest_document = 0;  ///< entries of the table of learned positions
  NormKind norm = NormKind::layer_norm;
  MlpKind mlp = MlpKind::gelu;
  bool tied_embedding = true;
  double dropout = 0;
  FeatureMap feature_map = FeatureMap::elu1;
  DType dtype = DType::f32;  ///< of parameters, activations and sums; f64 for tests

  std::int64_t head_dim() const { return width / heads; }
  std::int64_t features() const { return head_dim(); }
  /// Elements of one layer's state: heads * features * (value_dim + 1).
  std::int64_t state_size() const { return heads * features() * (head_dim() + 1); }
  /// Throws usage, naming the option that is out of range.
  void check() const;
};

}  // namespace longscan

// What a model is made of: the numbers that fix its parameters and formulas.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace longscan {

enum class Positions { sinusoidal, learned, rotary, none };
enum class NormKind { layer_norm, rms_norm };
enum class MlpKind { gelu, relu, swiglu };

/// What the tokens of a layer attend with.
enum class AttentionKind {
  elu1,              ///< linear attention, elu(x) + 1 (Katharopoulos et al. 2020)
  relu,              ///< linear attention, max(x, 0) + 1e-3
  favor_softmax,     ///< FAVOR+, positive random features of softmax (Choromanski et al. 2020)
  favor_hyperbolic,  ///< FAVOR+ with e^wx and e^-wx of every projection
  favor_relu,        ///< generalised attention, max(Wx, 0) + 1e-3 (the same paper)
  linformer,         ///< softmax over learned projections of the keys (Wang et al. 2020)
  softmax,           ///< exact
  identity           ///< every token gets its own value: the limit of speed
};

/// Lengths of the rows of random projections: those of Gaussian vectors, or all sqrt(dim).
enum class RowNorms { chi, regularized };

/// Which projections Linformer has: two a head, two a layer, one a layer, one a model (section 4).
enum class LinformerSharing { none, headwise, key_value, layerwise };

struct AttentionOptions {
  AttentionKind kind = AttentionKind::elu1;
  // favor_*
  std::int64_t features = 256;  ///< random projections; favor_hyperbolic makes two features of each
  bool orthogonal = true;       ///< in blocks of head_dim rows; else independent
  RowNorms row_norms = RowNorms::chi;
  std::int64_t redraw_interval = 1000;  ///< optimizer steps between two draws; 0: drawn once
  // linformer
  std::int64_t projected_length = 256;  ///< k: rows that keys and values are projected to
  LinformerSharing sharing = LinformerSharing::headwise;
};

/// elu1, relu, favor_*: what a token needs of others is a sum.
bool is_linear(AttentionKind kind);
/// favor_softmax, favor_hyperbolic, favor_relu.
bool is_favor(AttentionKind kind);
const char* name_of(AttentionKind kind);

/// A transformer: embedding, `layers` times [norm, attention, norm, MLP] with residuals, norm,
/// head.
struct ModelOptions {
  std::int64_t vocabulary = 0;  ///< entries of the embedding
  std::int64_t width = 256;
  std::int64_t layers = 4;
  std::int64_t heads = 4;  ///< divides width
  std::int64_t hidden = 1024;
  Positions positions = Positions::rotary;
  std::int64_t longest_document = 0;  ///< for learned positions and linformer
  NormKind norm = NormKind::layer_norm;
  MlpKind mlp = MlpKind::gelu;
  bool tied_embedding = true;
  double dropout = 0;
  bool causal = true;  ///< tokens see what precedes them in their document; else all of it
  /// Two residual streams, from whose ends backward computes the activations anew.
  bool reversible = false;
  AttentionOptions attention;
  /// One a layer, in place of `attention`; empty: `attention` everywhere.
  std::vector<AttentionOptions> layer_attention;
  /// Of activations and of what they are multiplied with; f64 for tests. Parameters, gradients,
  /// states and sums are of its sum_type.
  DType dtype = DType::f32;

  std::int64_t head_dim() const { return width / heads; }
  const AttentionOptions& attention_of(std::int64_t layer) const {
    return layer_attention.empty() ? attention
                                   : layer_attention.at(static_cast<std::size_t>(layer));
  }
  /// The first layer with that kind of attention, or `layers`.
  std::int64_t first_with(AttentionKind kind) const;
  /// What crosses a cut of the line in a layer: sums [heads, rows, columns], 0 x 0 where there are
  /// none.
  struct StateShape {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
  };
  StateShape state_shape(std::int64_t layer) const;
  std::int64_t state_size(std::int64_t layer) const {
    return heads * state_shape(layer).rows * state_shape(layer).columns;
  }
  /// The last column of a layer's states is an exponent.
  bool has_exponents(std::int64_t layer) const;
  /// The line may be cut in time: every layer looks back only, and what it needs is a sum.
  bool takes_segments() const;
  /// Throws usage, naming the option that is out of range.
  void check() const;
};

}  // namespace longscan

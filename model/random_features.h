// The random projections of FAVOR+ (Choromanski et al. 2020, "Rethinking attention with
// Performers").
//
// Nobody sends them: a projection is a function of (seed, layer, redraw), so it is the same on
// every rank and after a resume.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/device.h"
#include "kernels/random.h"
#include "model/options.h"

namespace longscan {

/// Fills out, [features, dim] f32, f64 or bf16, dense and in host memory, with rows w whose
/// directions are uniform on the sphere. Their lengths are those of Gaussian vectors, or all
/// sqrt(dim). `orthogonal`: the rows of every block of dim are at right angles (section 2.4), in a
/// last block of fewer rows too. Otherwise they are independent; with RowNorms::chi they then are
/// plain Gaussian vectors. Fewer features are the first rows of more, but for the type's rounding.
void draw_projection(const Tensor& out, const RandomKey& key, bool orthogonal, RowNorms norms);

/// One projection for every layer with random features, drawn anew every redraw_interval steps.
class RandomFeatures {
 public:
  /// `device` must outlive the object.
  RandomFeatures(const ModelOptions& options, Device& device);

  /// Makes the projections those of a training run of this seed after so many optimizer steps.
  /// Costs something only where a layer's projection is another one than before.
  void draw(std::uint64_t seed, std::int64_t steps);

  /// [features, head_dim]; absent where the layer has no random features. Throws internal when they
  /// have not been drawn.
  const Tensor& projection(std::int64_t layer) const;

 private:
  struct Layer {
    AttentionOptions attention;
    Tensor projection;
    std::optional<RandomKey> drawn;
  };

  Device& device_;
  Buffer memory_;
  std::vector<Layer> layers_;
};

}  // namespace longscan

// The feature maps on the CPU: rows of queries or keys into rows of features, and gradients back.
#pragma once

#include <cmath>

#include "kernels/cpu/carve.h"
#include "kernels/cpu/chunk_walk.h"
#include "kernels/cpu/exponents.h"
#include "kernels/cpu/tile_product.h"
#include "kernels/feature_map.h"

namespace longscan::attention {

/// Where the exponent of elu1 ends: products of two such features are still far above the smallest
/// fp32 number.
template <class T>
constexpr T kLowestExponent = T{-41};

/// What relu and favor_relu add, so that no token goes without any feature.
template <class T>
constexpr T kLeastFeature = T{1e-3};

enum class Role { query, key };

/// A feature map made ready for one operation: its projection transposed and padded. Rows of
/// features are padded to `stride` numbers.
template <class T>
class Features {
 public:
  /// Numbers of memory for `pack`.
  static std::int64_t count(const FeatureMap& map, std::int64_t dim) {
    if (!map.has_projection()) return 0;
    const std::int64_t projections = map.projection.shape[0];
    return Carve<T>::padded(dim * tile::padded<T>(projections)) +
           Carve<T>::padded(projections * tile::padded<T>(dim));
  }

  static Features pack(const FeatureMap& map, std::int64_t dim, T* memory) {
    Features features;
    features.kind_ = map.kind;
    features.dim_ = dim;
    features.count_ = map.features(dim);
    features.stride_ = tile::padded<T>(features.count_);
    if (map.has_projection()) features.pack_projection(map.projection, memory);
    return features;
  }

  std::int64_t count() const { return count_; }
  std::int64_t stride() const { return stride_; }
  std::int64_t padded_dim() const { return tile::padded<T>(dim_); }
  bool is_exponential() const {
    return kind_ == FeatureKind::favor_softmax || kind_ == FeatureKind::favor_hyperbolic;
  }

  /// phi of `count` rows of x from row `begin` on; of exponential maps the exponents. What lies
  /// behind the features becomes 0 (its exponent -infinity). Prefetches the rows `ahead` further.
  void map(T* phi, HeadView<T> x, std::int64_t begin, std::int64_t count, std::int64_t ahead,
           Role role) const {
    if (rows_ != nullptr) {
      for (std::int64_t i = 0; i < count; ++i) prefetch_row(x.row(begin + i + ahead), dim_);
      tile::multiply<T>({phi, stride_}, {x.row(begin), x.stride, 1},
                        {columns_, padded_projections_}, count, padded_projections_, dim_, false);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const T* in = x.row(begin + i);
      T* out = phi + i * stride_;
      if (rows_ == nullptr) prefetch_row(x.row(begin + i + ahead), dim_);
      map_row(out, in, role);
      std::fill(out + count_, out + stride_, is_exponential() ? exponents::kNone<T> : T{0});
    }
  }

  /// d_x of `count` rows from d_phi (of which nothing is left) and phi, with x the mapped rows.
  /// scratch: [count, padded_dim].
  void differentiate(HeadView<T> d_x, HeadView<T> x, std::int64_t begin, std::int64_t count,
                     std::int64_t ahead, T* d_phi, const T* phi, T* scratch, Role role) const {
    if (rows_ == nullptr) {
      for (std::int64_t i = 0; i < count; ++i) {
        prefetch_row_to_write(d_x.row(begin + i + ahead), dim_);
        differentiate_row(d_x.row(begin + i), d_phi + i * stride_, phi + i * stride_);
      }
      return;
    }
    // A product's rows read d_phi; what it still takes of x itself goes into the scratch first.
    for (std::int64_t i = 0; i < count; ++i) {
      const T total = gather_row(d_phi + i * stride_, phi + i * stride_);
      const T of_norm = role == Role::key && is_exponential() ? -total * scale_ * scale_ : T{0};
      const T* in = x.row(begin + i);
      T* out = scratch + i * padded_dim();
#pragma omp simd
      for (std::int64_t d = 0; d < dim_; ++d) out[d] = of_norm * in[d];
      std::fill(out + dim_, out + padded_dim(), T{0});
    }
    tile::multiply<T>({scratch, padded_dim()}, {d_phi, stride_, 1}, {rows_, padded_dim()}, count,
                      padded_dim(), projections_, true);
    for (std::int64_t i = 0; i < count; ++i) {
      prefetch_row_to_write(d_x.row(begin + i + ahead), dim_);
      std::copy_n(scratch + i * padded_dim(), dim_, d_x.row(begin + i));
    }
  }

 private:
  void pack_projection(const Tensor& projection, T* memory) {
    projections_ = projection.shape[0];
    padded_projections_ = tile::padded<T>(projections_);
    const double of_dim = 1 / std::sqrt(std::sqrt(static_cast<double>(dim_)));
    const double of_features = 1 / std::sqrt(static_cast<double>(projections_));
    scale_ = static_cast<T>(is_exponential() ? of_dim : of_features);
    Carve<T> carve(memory);
    T* columns = carve.take(dim_ * padded_projections_);
    T* rows = carve.take(projections_ * padded_dim());
    std::fill_n(columns, dim_ * padded_projections_, T{0});
    std::fill_n(rows, projections_ * padded_dim(), T{0});
    for (std::int64_t f = 0; f < projections_; ++f) {
      for (std::int64_t d = 0; d < dim_; ++d) {
        const T value = scale_ * projection.as<T>()[f * dim_ + d];
        columns[d * padded_projections_ + f] = value;
        rows[f * padded_dim() + d] = value;
      }
    }
    columns_ = columns;
    rows_ = rows;
  }

  // |x~|^2 / 2; not of queries, where it cancels.
  T half_square(const T* x, Role role) const {
    if (role == Role::query) return 0;
    T square = 0;
#pragma omp simd reduction(+ : square)
    for (std::int64_t d = 0; d < dim_; ++d) square += x[d] * x[d];
    return square * scale_ * scale_ / 2;
  }

  void map_row(T* phi, const T* x, Role role) const {
    const std::int64_t projections = projections_;
    switch (kind_) {
      case FeatureKind::elu1:
#pragma omp simd
        for (std::int64_t f = 0; f < dim_; ++f) {
          // e^x itself: elu(x) + 1 would round to zero below -17 in fp32. NaN stays NaN.
          const T value = x[f];
          const T capped = value > T{0} ? T{0} : value;
          const T small = vector_math::exp_of_negative(
              capped < kLowestExponent<T> ? kLowestExponent<T> : capped);
          phi[f] = value > T{0} ? value + T{1} : small;
        }
        break;
      case FeatureKind::relu:
#pragma omp simd
        for (std::int64_t f = 0; f < dim_; ++f) {
          phi[f] = (x[f] < T{0} ? T{0} : x[f]) + kLeastFeature<T>;
        }
        break;
      case FeatureKind::favor_relu:
#pragma omp simd
        for (std::int64_t f = 0; f < projections; ++f) {
          phi[f] = (phi[f] < T{0} ? T{0} : phi[f]) + kLeastFeature<T>;
        }
        break;
      case FeatureKind::favor_softmax: {
        const T square = half_square(x, role);
#pragma omp simd
        for (std::int64_t f = 0; f < projections; ++f) phi[f] -= square;
        break;
      }
      case FeatureKind::favor_hyperbolic: {
        const T square = half_square(x, role);
        T* other = phi + projections;
#pragma omp simd
        for (std::int64_t f = 0; f < projections; ++f) {
          other[f] = -phi[f] - square;
          phi[f] -= square;
        }
        break;
      }
    }
  }

  // d_x = d_phi * phi'(x) where features are numbers of x themselves, phi' from phi alone: of elu1
  // 1 where phi > 1 and e^x = phi elsewhere.
  void differentiate_row(T* d_x, const T* d_phi, const T* phi) const {
    if (kind_ == FeatureKind::elu1) {
#pragma omp simd
      for (std::int64_t f = 0; f < dim_; ++f) d_x[f] = d_phi[f] * (phi[f] < T{1} ? phi[f] : T{1});
    } else {
#pragma omp simd
      for (std::int64_t f = 0; f < dim_; ++f) d_x[f] = phi[f] > kLeastFeature<T> ? d_phi[f] : T{0};
    }
  }

  // Replaces d_phi by the gradient with respect to W x (scaled as W is here), and returns the sum
  // of d_phi * phi.
  T gather_row(T* d_phi, const T* phi) const {
    T total = 0;
    const std::int64_t projections = projections_;
    if (kind_ == FeatureKind::favor_relu) {
#pragma omp simd
      for (std::int64_t f = 0; f < projections; ++f) {
        d_phi[f] = phi[f] > kLeastFeature<T> ? d_phi[f] : T{0};
      }
    } else if (kind_ == FeatureKind::favor_softmax) {
#pragma omp simd reduction(+ : total)
      for (std::int64_t f = 0; f < projections; ++f) {
        d_phi[f] *= phi[f];
        total += d_phi[f];
      }
    } else {
      T* other = d_phi + projections;
      const T* other_phi = phi + projections;
#pragma omp simd reduction(+ : total)
      for (std::int64_t f = 0; f < projections; ++f) {
        const T up = d_phi[f] * phi[f];
        const T down = other[f] * other_phi[f];
        total += up + down;
        d_phi[f] = up - down;
      }
    }
    return total;
  }

  FeatureKind kind_ = FeatureKind::elu1;
  std::int64_t dim_ = 0;
  std::int64_t count_ = 0;
  std::int64_t stride_ = 0;
  std::int64_t projections_ = 0;
  std::int64_t padded_projections_ = 0;
  T scale_ = 1;                 // of x before it is projected
  const T* columns_ = nullptr;  // scale * W^T, [dim, padded projections]
  const T* rows_ = nullptr;     // scale * W, [projections, padded dim]; absent without a projection
};

}  // namespace longscan::attention

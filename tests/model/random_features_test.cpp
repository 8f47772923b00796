// Random projections: their distribution, the errors of the estimates made with them, and when they
// are drawn.
#include "model/random_features.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <set>

#include "dist/thread_communicator.h"
#include "model/trainer.h"
#include "tests/support/lines.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

using test::OwnedTensor;
using Vector = std::vector<double>;

constexpr std::int64_t kDim = 16;

RandomKey key_of(std::uint64_t draw) {
  return {5, RandomPurpose::random_features, draw};
}

double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// W as rows.
std::vector<Vector> rows_of(const OwnedTensor& projection) {
  const std::int64_t dim = projection.view().shape[1];
  std::vector<Vector> rows;
  for (std::int64_t i = 0; i < projection.size(); ++i) {
    if (i % dim == 0) rows.emplace_back();
    rows.back().push_back(projection.get(i));
  }
  return rows;
}

// Draws of W: the library's into the same tensor again and again, or a test's own.
using Draw = std::function<std::vector<Vector>(std::uint64_t draw)>;

Draw drawn(std::int64_t features, bool orthogonal, RowNorms norms = RowNorms::chi) {
  auto projection = std::make_shared<OwnedTensor>(
      DType::f64, std::initializer_list<std::int64_t>{features, kDim});
  return [=](std::uint64_t draw) {
    draw_projection(*projection, key_of(draw), orthogonal, norms);
    return rows_of(*projection);
  };
}

// The Q of Householder's QR of columns, as LAPACK's geqrf and orgqr compute it: R's diagonal has
// the sign opposite to the reflected entry. Returned as rows, which is what a transpose of Q gives.
std::vector<Vector> raw_qr(std::vector<Vector> columns) {
  const std::size_t dim = columns.size();
  std::vector<Vector> reflections;
  for (std::size_t k = 0; k < dim; ++k) {
    Vector v(dim, 0.0);
    std::copy(columns[k].begin() + static_cast<std::ptrdiff_t>(k), columns[k].end(),
              v.begin() + static_cast<std::ptrdiff_t>(k));
    v[k] += std::copysign(std::sqrt(dot(v, v)), v[k]);
    // The last one is the identity: nothing is below its diagonal.
    if (k + 1 == dim) std::fill(v.begin(), v.end(), 0.0);
    reflections.push_back(v);
    const double squared = dot(v, v);
    for (std::size_t j = k; squared > 0 && j < dim; ++j) {
      const double factor = 2 * dot(v, columns[j]) / squared;
      for (std::size_t i = 0; i < dim; ++i) columns[j][i] -= factor * v[i];
    }
  }
  std::vector<Vector> q(dim, Vector(dim, 0.0));
  for (std::size_t j = 0; j < dim; ++j) {
    q[j][j] = 1;
    for (std::size_t k = dim; k-- > 0;) {
      const double squared = dot(reflections[k], reflections[k]);
      if (squared == 0) continue;
      const double factor = 2 * dot(reflections[k], q[j]) / squared;
      for (std::size_t i = 0; i < dim; ++i) q[j][i] -= factor * reflections[k][i];
    }
  }
  return q;
}

// W by raw QR, rows of chi lengths: what implementations without the sign correction draw.
std::vector<Vector> raw_draw(std::uint64_t draw) {
  std::vector<Vector> gaussian;
  for (std::uint64_t i = 0; i < 2 * kDim; ++i) {
    gaussian.emplace_back();
    for (std::uint64_t j = 0; j < kDim; ++j) {
      gaussian.back().push_back(random_normal(key_of(draw), i * kDim + j));
    }
  }
  std::vector<Vector> rows = raw_qr({gaussian.begin(), gaussian.begin() + kDim});
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Vector& other = gaussian[kDim + i];
    for (double& number : rows[i]) number *= std::sqrt(dot(other, other));
  }
  return rows;
}

// phi(x) . phi(y) / e^(x . y), from the definition phi(x) = e^(W x - |x|^2 / 2) / sqrt(M); with
// `hyperbolic` also e^(-W x - |x|^2 / 2), and 1 / sqrt(2 M).
double relative_estimate(const std::vector<Vector>& projection, const Vector& x, const Vector& y,
                         bool hyperbolic) {
  double sum = 0;
  for (const Vector& row : projection) {
    const auto feature = [&](const Vector& z, double sign) {
      return std::exp(sign * dot(row, z) - dot(z, z) / 2);
    };
    sum += feature(x, 1) * feature(y, 1);
    if (hyperbolic) sum += feature(x, -1) * feature(y, -1);
  }
  const auto count = static_cast<double>((hyperbolic ? 2 : 1) * projection.size());
  return sum / count / std::exp(dot(x, y));
}

struct Moments {
  double mean = 0;
  double variance = 0;
  double standard_error = 0;
};

// Of the relative estimates for pairs whose sum is each of `sums`, over the same draws.
std::vector<Moments> moments_of(const Draw& draw, int draws, const std::vector<Vector>& sums,
                                bool hyperbolic = false) {
  std::vector<double> first(sums.size());
  std::vector<double> second(sums.size());
  for (int i = 0; i < draws; ++i) {
    const std::vector<Vector> projection = draw(static_cast<std::uint64_t>(i));
    for (std::size_t s = 0; s < sums.size(); ++s) {
      // An uneven share of the sum for each, so that neither is special.
      Vector x = sums[s];
      Vector y = sums[s];
      for (double& number : x) number *= 0.3;
      for (double& number : y) number *= 0.7;
      const double error = relative_estimate(projection, x, y, hyperbolic) - 1;
      first[s] += error / draws;
      second[s] += error * error / draws;
    }
  }
  std::vector<Moments> result;
  for (std::size_t s = 0; s < sums.size(); ++s) {
    const double variance = second[s] - first[s] * first[s];
    result.push_back({1 + first[s], variance, std::sqrt(variance / draws)});
  }
  return result;
}

// Along +ones, along -ones, and in a random direction; of length 1.
std::vector<Vector> sums_of_length_one() {
  const double entry = 1 / std::sqrt(static_cast<double>(kDim));
  Vector random;
  for (std::uint64_t i = 0; i < kDim; ++i) random.push_back(random_normal({.seed = 99}, i));
  const double length = std::sqrt(dot(random, random));
  for (double& number : random) number /= length;
  return {Vector(kDim, entry), Vector(kDim, -entry), random};
}

bool is_unbiased(const Moments& moments) {
  return std::abs(moments.mean - 1) < 3 * moments.standard_error;
}

TEST(RandomFeatures, EstimateSoftmaxWithoutBias) {
  for (const bool orthogonal : {true, false}) {
    for (const Moments& moments :
         moments_of(drawn(kDim, orthogonal), 40000, sums_of_length_one())) {
      EXPECT_TRUE(is_unbiased(moments)) << moments.mean << " +- " << moments.standard_error;
      EXPECT_LT(moments.standard_error, 0.0018);
    }
  }
}

TEST(RandomFeatures, WithoutTheSignsOfRAreFoundBiasedByTheSameTest) {
  const std::vector<Moments> moments = moments_of(raw_draw, 40000, sums_of_length_one());
  EXPECT_FALSE(is_unbiased(moments[0]));
  EXPECT_FALSE(is_unbiased(moments[1]));
  EXPECT_NEAR(moments[0].mean, 0.854, 0.006);
  EXPECT_NEAR(moments[1].mean, 1.145, 0.006);
}

TEST(RandomFeatures, HaveThePublishedVariance) {
  // Lemma 2 and theorem 2 of the paper, relative to SM^2: with |z| = 1, SM = e^(x . y).
  constexpr double kCount = 8;
  const double independent = std::exp(1.0) * (1 - std::exp(-1.0)) / kCount;
  const std::vector<Vector> sums = {sums_of_length_one()[2]};
  const auto variance = [&](bool orthogonal, bool hyperbolic) {
    return moments_of(drawn(kCount, orthogonal), 100000, sums, hyperbolic)[0].variance;
  };
  const double positive = variance(false, false);
  EXPECT_NEAR(positive / independent, 1, 0.04);
  EXPECT_NEAR(variance(false, true) / (independent * (1 - std::exp(-1.0)) / 2), 1, 0.04);
  const double distance = 1 - std::exp(-0.5);  // (SM - e^(-(|x|^2 + |y|^2) / 2)) / SM
  const double gain = 2 * (kCount - 1) / (kCount * (kDim + 2)) * distance * distance;
  const double orthogonal = variance(true, false);
  EXPECT_LT(orthogonal, positive);
  EXPECT_LT(orthogonal, independent - gain);
}

// Rows of softmax(q k^T / sqrt(d)), and of what features of W make of it.
struct Matrices {
  std::vector<Vector> exact;
  std::vector<Vector> estimated;
};

Matrices attention_matrices(const std::vector<Vector>& query, const std::vector<Vector>& key,
                            const std::vector<Vector>& projection) {
  const double root = std::pow(static_cast<double>(kDim), 0.25);
  const auto features = [&](const Vector& x) {
    Vector result;
    for (const Vector& row : projection) {
      result.push_back(std::exp(dot(row, x) / root - dot(x, x) / (2 * root * root)));
    }
    return result;
  };
  std::vector<Vector> key_features;
  for (const Vector& k : key) key_features.push_back(features(k));
  const auto normalized = [](Vector row) {
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    for (double& number : row) number /= sum;
    return row;
  };
  Matrices result;
  for (const Vector& q : query) {
    const Vector query_features = features(q);
    Vector exact;
    Vector estimated;
    for (std::size_t j = 0; j < key.size(); ++j) {
      exact.push_back(std::exp(dot(q, key[j]) / (root * root)));
      estimated.push_back(dot(query_features, key_features[j]));
    }
    result.exact.push_back(normalized(exact));
    result.estimated.push_back(normalized(estimated));
  }
  return result;
}

double relative_distance(const std::vector<Vector>& a, const std::vector<Vector>& truth) {
  double squares = 0;
  double whole = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      squares += (a[i][j] - truth[i][j]) * (a[i][j] - truth[i][j]);
      whole += truth[i][j] * truth[i][j];
    }
  }
  return std::sqrt(squares / whole);
}

TEST(RandomFeatures, ComeCloserToSoftmaxWithTheRootOfTheirNumber) {
  constexpr std::int64_t kLength = 256;
  const std::vector<Vector> query =
      rows_of(OwnedTensor::random(DType::f64, {kLength, kDim}, 1, 0.25));
  const std::vector<Vector> key =
      rows_of(OwnedTensor::random(DType::f64, {kLength, kDim}, 2, 0.25));
  constexpr int kDraws = 4;
  const auto error = [&](std::int64_t features) {
    double sum = 0;
    for (std::uint64_t draw = 0; draw < kDraws; ++draw) {
      const Matrices matrices = attention_matrices(query, key, drawn(features, true)(draw));
      sum += relative_distance(matrices.estimated, matrices.exact) / kDraws;
    }
    return sum;
  };
  const Matrices matrices = attention_matrices(query, key, drawn(1, true)(0));
  const std::vector<Vector> uniform(kLength, Vector(kLength, 1.0 / kLength));
  const double averaging = relative_distance(uniform, matrices.exact);
  EXPECT_NEAR(averaging, 0.066, 0.005);
  const double few = error(64);
  const double some = error(256);
  const double many = error(1024);
  // From draw to draw these differ by a sixth.
  EXPECT_NEAR(some / 0.034, 1, 0.25);
  EXPECT_NEAR(many / 0.015, 1, 0.25);
  EXPECT_LT(some, averaging);
  EXPECT_NEAR(std::log(many / few) / std::log(16.0), -0.5, 0.1);
}

TEST(RandomFeatures, AreOrthogonalInBlocks) {
  for (const std::int64_t dim : {1, 5, 16, 33}) {
    OwnedTensor projection(DType::f64, {2 * dim + 3, dim});
    draw_projection(projection, key_of(1), true, RowNorms::chi);
    const std::vector<Vector> rows = rows_of(projection);
    for (std::int64_t i = 0; i < 2 * dim + 3; ++i) {
      for (std::int64_t j = i / dim * dim; j < i; ++j) {
        const double sizes = std::sqrt(dot(rows[i], rows[i]) * dot(rows[j], rows[j]));
        EXPECT_NEAR(dot(rows[i], rows[j]) / sizes, 0, 1e-14) << i << ", " << j << " of " << dim;
      }
    }
  }
}

TEST(RandomFeatures, HaveRowsOfTheLengthsAskedFor) {
  constexpr std::int64_t kFeatures = 20000;
  for (const bool orthogonal : {true, false}) {
    OwnedTensor projection(DType::f64, {kFeatures, kDim});
    draw_projection(projection, key_of(2), orthogonal, RowNorms::regularized);
    for (const Vector& row : rows_of(projection)) ASSERT_NEAR(dot(row, row), kDim, 1e-12);
    draw_projection(projection, key_of(2), orthogonal, RowNorms::chi);
    // Squared lengths are chi-squared: mean dim, variance 2 dim.
    double mean = 0;
    double square = 0;
    for (const Vector& row : rows_of(projection)) {
      mean += dot(row, row) / kFeatures;
      square += dot(row, row) * dot(row, row) / kFeatures;
    }
    EXPECT_NEAR(mean, kDim, 4 * std::sqrt(2.0 * kDim / kFeatures));
    EXPECT_NEAR(square - mean * mean, 2 * kDim, 2 * kDim * 0.06);
  }
}

TEST(RandomFeatures, AreTheSameNumbersInFloat) {
  for (const bool orthogonal : {true, false}) {
    OwnedTensor exact(DType::f64, {37, kDim});
    OwnedTensor rounded(DType::f32, {37, kDim});
    draw_projection(exact, key_of(3), orthogonal, RowNorms::chi);
    draw_projection(rounded, key_of(3), orthogonal, RowNorms::chi);
    for (std::int64_t i = 0; i < exact.size(); ++i) {
      ASSERT_EQ(rounded.get(i), static_cast<double>(static_cast<float>(exact.get(i))));
    }
  }
}

AttentionOptions favor(std::int64_t redraw_interval) {
  return {.kind = AttentionKind::favor_softmax, .features = 6, .redraw_interval = redraw_interval};
}

// Three layers with random features, drawn never again, every second and every third step, and one
// without.
ModelOptions model_that_redraws() {
  return {.vocabulary = 11,
          .width = 12,
          .layers = 4,
          .heads = 2,
          .hidden = 8,
          .layer_attention = {favor(0), favor(2), {}, favor(3)},
          .dtype = DType::f64};
}

// The projections of all layers, one behind the other.
Vector projections_of(const RandomFeatures& features, const ModelOptions& options) {
  Vector numbers;
  for (std::int64_t layer = 0; layer < options.layers; ++layer) {
    const Tensor& projection = features.projection(layer);
    if (!projection.present()) continue;
    numbers.insert(numbers.end(), projection.as<double>(),
                   projection.as<double>() + projection.size());
  }
  return numbers;
}

Vector projections_at(std::int64_t steps, std::uint64_t seed = 1) {
  Device device = Device::cpu(1);
  RandomFeatures features(model_that_redraws(), device);
  features.draw(seed, steps);
  return projections_of(features, model_that_redraws());
}

TEST(RandomFeatures, AreDrawnAnewExactlyAtTheirInterval) {
  constexpr std::size_t kNumbers = 6 * 6;  // of a layer
  const auto differs = [&](std::int64_t step, std::size_t layer) {
    const Vector before = projections_at(step - 1);
    const Vector after = projections_at(step);
    const auto first = static_cast<std::ptrdiff_t>(layer * kNumbers);
    return !std::equal(before.begin() + first, before.begin() + first + kNumbers,
                       after.begin() + first);
  };
  for (std::int64_t step = 1; step <= 12; ++step) {
    EXPECT_FALSE(differs(step, 0));
    EXPECT_EQ(differs(step, 1), step % 2 == 0) << step;
    EXPECT_EQ(differs(step, 2), step % 3 == 0) << step;
  }
}

TEST(RandomFeatures, OfLayersDrawsAndSeedsDiffer) {
  std::set<double> seen;
  std::size_t count = 0;
  for (const std::uint64_t seed : {1, 2}) {
    // Steps of which every layer but the first has another draw.
    for (const std::int64_t steps : {0, 6, 12}) {
      const Vector numbers = projections_at(steps, seed);
      const std::ptrdiff_t first = steps == 0 ? 0 : 36;
      seen.insert(numbers.begin() + first, numbers.end());
      count += numbers.size() - static_cast<std::size_t>(first);
    }
  }
  EXPECT_EQ(seen.size(), count);
}

TEST(RandomFeatures, MustBeDrawnBeforeTheyAreUsed) {
  Device device = Device::cpu(1);
  const RandomFeatures features(model_that_redraws(), device);
  EXPECT_FALSE(features.projection(2).present());
  test::expect_error(ErrorKind::internal, "RandomFeatures",
                     [&] { static_cast<void>(features.projection(0)); });
}

// The projections of every rank's trainer after each step from `from` up to `to`.
std::vector<std::vector<Vector>> trained_projections(int ranks, std::int64_t from,
                                                     std::int64_t to) {
  std::vector<std::vector<Vector>> result(static_cast<std::size_t>(ranks));
  run_ranks(ranks, [&](Communicator& world) {
    Mesh mesh(world, 0);
    Device device = Device::cpu(1);
    Trainer trainer(model_that_redraws(), {.warmup_steps = 1, .total_steps = 20}, 1, device, mesh);
    if (from > 0) trainer.resume_at(from, from);
    const test::Line line = test::random_line(20, 11, {});
    const test::RankLine mine = test::shards_of(line, 1, ranks, world.rank());
    std::vector<Vector>& seen = result[static_cast<std::size_t>(world.rank())];
    const RandomFeatures& features = trainer.transformer().features();
    seen.push_back(projections_of(features, model_that_redraws()));
    while (trainer.steps() < to) {
      trainer.step(mine.shards);
      seen.push_back(projections_of(features, model_that_redraws()));
    }
  });
  return result;
}

TEST(RandomFeatures, OfATrainerAreThoseOfItsStepsOnAllRanksAndAfterResuming) {
  constexpr std::int64_t kSteps = 7;
  const auto seen = trained_projections(3, 0, kSteps);
  for (std::int64_t step = 0; step <= kSteps; ++step) {
    for (const std::vector<Vector>& rank : seen) {
      EXPECT_EQ(rank[static_cast<std::size_t>(step)], projections_at(step)) << step;
    }
  }
  const auto resumed = trained_projections(2, 5, kSteps);
  for (const std::vector<Vector>& rank : resumed) {
    for (std::int64_t step = 5; step <= kSteps; ++step) {
      EXPECT_EQ(rank[static_cast<std::size_t>(step - 5)], projections_at(step)) << step;
    }
  }
}

}  // namespace
}  // namespace longscan

// Linear attention against its O(n^2) definition in double, its gradients against central
// differences.
#include "kernels/linear_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/random.h"

namespace longscan {
namespace {

struct Shape {
  std::int64_t tokens;
  std::int64_t heads;
  std::int64_t dim;
  std::int64_t value_dim;
  std::vector<std::int64_t> starts;
};

// Sizes around the chunk and the vector, features unlike value_dim, documents of one token and on
// chunk borders.
const std::vector<Shape> kShapes = {
    {1, 1, 1, 1, {}},
    {33, 2, 5, 3, {}},
    {43, 3, 16, 33, {0, 1, 2, 42}},
    {64, 1, 33, 16, {}},
    {65, 2, 17, 8, {64}},
    {597, 3, 24, 43, {63, 64, 65, 127, 128, 300, 301, 596}},
    {600, 1, 64, 64, {}},
};

double phi(double x) {
  return x > 0 ? x + 1 : std::exp(x);
}

// Random operands of one call, as doubles; `set` copies them to a device tensor of either type.
struct Operands {
  Shape shape;
  std::vector<double> query, key, value, d_out, before, after;

  explicit Operands(const Shape& s, double scale = 1) : shape(s) {
    const auto fill = [&](std::vector<double>& values, std::int64_t count, std::uint64_t step) {
      for (std::int64_t i = 0; i < count; ++i) {
        values.push_back(scale * random_normal({1, RandomPurpose::sample, step}, i));
      }
    };
    fill(query, s.tokens * s.heads * s.dim, 0);
    fill(key, s.tokens * s.heads * s.dim, 1);
    fill(value, s.tokens * s.heads * s.value_dim, 2);
    fill(d_out, s.tokens * s.heads * s.value_dim, 3);
    fill(before, s.heads * s.dim * (s.value_dim + 1), 4);
    fill(after, s.heads * s.dim * (s.value_dim + 1), 5);
    for (double& x : before) x = std::abs(x);  // a sum of positive features
  }
};

// out and normaliser by the definition: token i attends to j <= i of its document, and to `before`
// where its document began before the line.
struct Truth {
  std::vector<double> out, normalizer;

  Truth(const Operands& o, bool with_before) {
    const Shape& s = o.shape;
    out.resize(s.tokens * s.heads * s.value_dim);
    normalizer.resize(s.tokens * s.heads);
    for (std::int64_t h = 0; h < s.heads; ++h) {
      std::int64_t document = 0;
      bool continued = with_before;
      for (std::int64_t i = 0; i < s.tokens; ++i) {
        if (std::find(s.starts.begin(), s.starts.end(), i) != s.starts.end()) {
          document = i;
          continued = false;
        }
        const double* q = &o.query[(i * s.heads + h) * s.dim];
        double* row = &out[(i * s.heads + h) * s.value_dim];
        double total = 0;
        const auto add = [&](double weight, const auto& value_at) {
          total += weight;
          for (std::int64_t d = 0; d < s.value_dim; ++d) row[d] += weight * value_at(d);
        };
        for (std::int64_t f = 0; continued && f < s.dim; ++f) {
          const double* state = &o.before[(h * s.dim + f) * (s.value_dim + 1)];
          for (std::int64_t d = 0; d < s.value_dim; ++d) row[d] += phi(q[f]) * state[d];
          total += phi(q[f]) * state[s.value_dim];
        }
        for (std::int64_t j = document; j <= i; ++j) {
          double weight = 0;
          for (std::int64_t f = 0; f < s.dim; ++f) {
            weight += phi(q[f]) * phi(o.key[(j * s.heads + h) * s.dim + f]);
          }
          add(weight, [&](std::int64_t d) { return o.value[(j * s.heads + h) * s.value_dim + d]; });
        }
        for (std::int64_t d = 0; d < s.value_dim; ++d) row[d] /= total;
        normalizer[i * s.heads + h] = total;
      }
    }
  }
};

// Device tensors of one call. Query, key and value lie beside each other, as a joint projection
// leaves them.
template <class T>
struct Tensors {
  Device device;
  std::vector<Buffer> memory;
  std::vector<std::int64_t> starts;
  Tensor query, key, value, d_out, out, normalizer, before, after, document_starts;
  Tensor d_query, d_key, d_value;

  Tensors(const Operands& o, int threads) : device(Device::cpu(threads)), starts(o.shape.starts) {
    const Shape& s = o.shape;
    const Tensor joint = make({s.tokens, s.heads * (2 * s.dim + s.value_dim)});
    const Tensor d_joint = make({s.tokens, s.heads * (2 * s.dim + s.value_dim)});
    const auto part = [&](const Tensor& from, std::int64_t begin, std::int64_t dim) {
      return from.columns(begin, begin + s.heads * dim).split_heads(s.heads);
    };
    query = part(joint, 0, s.dim), d_query = part(d_joint, 0, s.dim);
    key = part(joint, s.heads * s.dim, s.dim), d_key = part(d_joint, s.heads * s.dim, s.dim);
    value = part(joint, 2 * s.heads * s.dim, s.value_dim);
    d_value = part(d_joint, 2 * s.heads * s.dim, s.value_dim);
    out = make({s.tokens, s.heads, s.value_dim}), d_out = make({s.tokens, s.heads, s.value_dim});
    normalizer = make({s.tokens, s.heads});
    before = make({s.heads, s.dim, s.value_dim + 1}),
    after = make({s.heads, s.dim, s.value_dim + 1});
    document_starts =
        Tensor::dense(starts.data(), DType::i64, {static_cast<std::int64_t>(starts.size())});
    set(query, o.query), set(key, o.key), set(value, o.value), set(d_out, o.d_out);
    set(before, o.before), set(after, o.after);
  }

  Tensor make(std::initializer_list<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    memory.push_back(device.allocate(count * static_cast<std::int64_t>(sizeof(T))));
    return Tensor::dense(memory.back().data(), DTypeOf<T>::value, shape);
  }
  static T& at(const Tensor& t, std::int64_t index) {
    const std::int64_t row = t.shape[1] * t.shape[2];
    const std::int64_t inner = index % row;
    return t
        .as<T>()[index / row * t.stride[0] + inner / t.shape[2] * t.stride[1] + inner % t.shape[2]];
  }
  static void set(const Tensor& t, const std::vector<double>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) at(t, i) = static_cast<T>(values[i]);
  }
  static std::vector<double> get(const Tensor& t) {
    std::vector<double> values;
    for (std::int64_t i = 0; i < t.size(); ++i) {
      values.push_back(t.rank == 3 ? at(t, i) : t.as<T>()[i]);
    }
    return values;
  }

  void forward(bool with_before) {
    device.run(LinearAttention{.out = out,
                               .normalizer = normalizer,
                               .query = query,
                               .key = key,
                               .value = value,
                               .state_before = with_before ? before : Tensor{},
                               .document_starts = document_starts});
  }
  void backward(bool with_before, bool with_after) {
    device.run(LinearAttentionBackwardQuery{.d_query = d_query,
                                            .d_out = d_out,
                                            .out = out,
                                            .normalizer = normalizer,
                                            .query = query,
                                            .key = key,
                                            .value = value,
                                            .state_before = with_before ? before : Tensor{},
                                            .document_starts = document_starts});
    device.run(LinearAttentionBackwardKeyValue{.d_key = d_key,
                                               .d_value = d_value,
                                               .d_out = d_out,
                                               .out = out,
                                               .normalizer = normalizer,
                                               .query = query,
                                               .key = key,
                                               .value = value,
                                               .state_after = with_after ? after : Tensor{},
                                               .document_starts = document_starts});
  }
};

double worst_relative(const std::vector<double>& got, const std::vector<double>& expected) {
  double largest = 1e-3, worst = 0;  // a gradient may be zero altogether
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    worst = std::max(worst, std::abs(got[i] - expected[i]));
    if (std::isnan(got[i])) return INFINITY;
  }
  return worst / largest;
}

template <class T>
void expect_forward_is_the_definition(double tolerance) {
  for (const Shape& shape : kShapes) {
    const Operands operands(shape);
    for (const bool with_before : {false, true}) {
      const Truth truth(operands, with_before);
      for (const int threads : {1, 2, 3}) {
        Tensors<T> tensors(operands, threads);
        tensors.forward(with_before);
        EXPECT_LT(worst_relative(tensors.get(tensors.out), truth.out), tolerance) << shape.tokens;
        EXPECT_LT(worst_relative(tensors.get(tensors.normalizer), truth.normalizer), tolerance);
      }
    }
  }
}

TEST(LinearAttention, IsTheDefinitionInDouble) {
  expect_forward_is_the_definition<double>(1e-13);
}
TEST(LinearAttention, IsTheDefinitionInFloat) {
  expect_forward_is_the_definition<float>(3e-6);
}

TEST(LinearAttention, HandCheckedAverages) {
  // With equal keys every token averages the values so far: 1, 1/2, 1/3.
  Operands operands({3, 1, 4, 1, {}});
  std::fill(operands.query.begin(), operands.query.end(), 1);
  std::fill(operands.key.begin(), operands.key.end(), 1);
  operands.value = {1, 0, 0};
  Tensors<float> tensors(operands, 1);
  tensors.forward(false);
  EXPECT_FLOAT_EQ(tensors.out.as<float>()[0], 1);
  EXPECT_FLOAT_EQ(tensors.out.as<float>()[1], 0.5);
  EXPECT_FLOAT_EQ(tensors.out.as<float>()[2], 1.0 / 3);
}

TEST(LinearAttention, KeysFarBelowZeroStillHaveAWeight) {
  // elu(x) + 1 computed as such would be 0 / 0 here.
  Operands operands({5, 1, 8, 2, {}});
  std::fill(operands.key.begin(), operands.key.end(), -40);
  const Truth truth(operands, false);
  Tensors<float> tensors(operands, 1);
  tensors.forward(false);
  EXPECT_LT(worst_relative(tensors.get(tensors.out), truth.out), 1e-5);
}

TEST(LinearAttention, AveragesWhereAllFeaturesAreTiny) {
  // e^-60 e^-60 is no fp32 number; the weights are then equal, as those of equal keys.
  Operands operands({3, 1, 4, 1, {}});
  std::fill(operands.query.begin(), operands.query.end(), -60);
  std::fill(operands.key.begin(), operands.key.end(), -60);
  operands.value = {1, 0, 0};
  Tensors<float> tensors(operands, 1);
  tensors.forward(false);
  tensors.backward(false, false);
  EXPECT_NEAR(tensors.out.as<float>()[2], 1.0 / 3, 1e-6);
  for (const double gradient : tensors.get(tensors.d_value)) EXPECT_TRUE(std::isfinite(gradient));
}

TEST(LinearAttention, NanIsNotSwallowed) {
  for (const bool in_query : {false, true}) {
    Operands operands({3, 1, 16, 2, {}});
    (in_query ? operands.query : operands.key)[17] = NAN;  // of token 1
    Tensors<float> tensors(operands, 1);
    tensors.forward(false);
    EXPECT_FALSE(std::isnan(tensors.out.as<float>()[0]));
    EXPECT_TRUE(std::isnan(tensors.out.as<float>()[2]));
  }
}

TEST(LinearAttention, GradientIsTheCentralDifference) {
  for (const Shape& shape : kShapes) {
    if (shape.tokens > 100) continue;
    Operands operands(shape);
    for (const int threads : {1, 2}) {
      // `after` stands for what later tokens hand back to the state behind this line, so it adds
      // <state, after>.
      const auto loss = [&] {
        Tensors<double> tensors(operands, threads);
        tensors.forward(true);
        double total = 0;
        const std::vector<double> out = tensors.get(tensors.out);
        for (std::size_t i = 0; i < out.size(); ++i) total += out[i] * operands.d_out[i];
        const Tensor state = tensors.make({shape.heads, shape.dim, shape.value_dim + 1});
        tensors.device.run(LinearAttentionSum{.state = state,
                                              .key = tensors.key,
                                              .value = tensors.value,
                                              .document_starts = tensors.document_starts});
        for (std::int64_t i = 0; i < state.size(); ++i) {
          total += state.as<double>()[i] * operands.after[i];
        }
        return total;
      };
      Tensors<double> tensors(operands, threads);
      tensors.forward(true);
      tensors.backward(true, true);
      const auto compare = [&](std::vector<double>& values, const Tensor& gradient,
                               const char* name) {
        const std::vector<double> got = tensors.get(gradient);
        for (std::size_t i = 0; i < values.size(); i += 1 + values.size() / 60) {
          const double before = values[i];
          const double step = 1e-5;
          values[i] = before + step;
          const double above = loss();
          values[i] = before - step;
          const double below = loss();
          values[i] = before;
          const double expected = (above - below) / (2 * step);
          EXPECT_NEAR(got[i], expected, 2e-7 * std::max(1.0, std::abs(expected)))
              << name << "[" << i << "] of " << shape.tokens << " tokens";
        }
      };
      compare(operands.query, tensors.d_query, "query");
      compare(operands.key, tensors.d_key, "key");
      compare(operands.value, tensors.d_value, "value");
    }
  }
}

TEST(LinearAttention, GradientInFloatIsNearThatInDouble) {
  for (const Shape& shape : kShapes) {
    const Operands operands(shape);
    for (const int threads : {1, 2}) {
      Tensors<double> exact(operands, 1);
      Tensors<float> tensors(operands, threads);
      exact.forward(true), exact.backward(true, true);
      tensors.forward(true), tensors.backward(true, true);
      EXPECT_LT(worst_relative(tensors.get(tensors.d_query), exact.get(exact.d_query)), 1e-5);
      EXPECT_LT(worst_relative(tensors.get(tensors.d_key), exact.get(exact.d_key)), 1e-5);
      EXPECT_LT(worst_relative(tensors.get(tensors.d_value), exact.get(exact.d_value)), 1e-5);
    }
  }
}

TEST(LinearAttention, FutureTokensChangeNothing) {
  const Shape shape{150, 2, 8, 8, {70}};
  Operands operands(shape);
  Tensors<float> before(operands, 2);
  before.forward(false);
  const std::int64_t cut = 101;
  for (std::size_t i = cut * shape.heads * shape.dim; i < operands.key.size(); ++i) {
    operands.key[i] = 1e6;
    operands.query[i] = 1e6;
    operands.value[i] = 1e9;
  }
  Tensors<float> after(operands, 2);
  after.forward(false);
  const std::int64_t count = cut * shape.heads * shape.value_dim;
  for (std::int64_t i = 0; i < count; ++i) {
    EXPECT_EQ(before.out.as<float>()[i], after.out.as<float>()[i]);
  }
}

TEST(LinearAttention, StepsEqualTheParallelForm) {
  const Shape shape{41, 3, 12, 7, {}};
  const Operands operands(shape);
  Tensors<double> parallel(operands, 1);
  parallel.forward(false);
  Tensors<double> stepped(operands, 1);
  const Tensor state = stepped.make({shape.heads, shape.dim, shape.value_dim + 1});
  for (std::int64_t i = 0; i < shape.tokens; ++i) {
    stepped.device.run(LinearAttentionStep{.out = stepped.out.rows(i, i + 1),
                                           .state = state,
                                           .query = stepped.query.rows(i, i + 1),
                                           .key = stepped.key.rows(i, i + 1),
                                           .value = stepped.value.rows(i, i + 1)});
  }
  EXPECT_LT(worst_relative(stepped.get(stepped.out), parallel.get(parallel.out)), 1e-13);
}

TEST(LinearAttention, StatesAreTheSumsOfTheirDefinition) {
  for (const Shape& shape : kShapes) {
    const Operands o(shape);
    const std::int64_t first = shape.starts.empty() ? shape.tokens : shape.starts.front();
    const std::int64_t last = shape.starts.empty() ? 0 : shape.starts.back();
    for (const int threads : {1, 2, 3}) {
      Tensors<double> t(o, threads);
      t.forward(false);
      const std::vector<double> out = t.get(t.out), normalizer = t.get(t.normalizer);
      std::vector<double> keys(o.before.size()), gradients(o.before.size());
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        for (std::int64_t i = 0; i < shape.tokens; ++i) {
          const std::int64_t token = i * shape.heads + h;
          double dot = 0;
          for (std::int64_t d = 0; d < shape.value_dim; ++d) {
            dot += o.d_out[token * shape.value_dim + d] * out[token * shape.value_dim + d];
          }
          for (std::int64_t f = 0; f < shape.dim; ++f) {
            const std::int64_t row = (h * shape.dim + f) * (shape.value_dim + 1);
            const double key = phi(o.key[token * shape.dim + f]);
            const double query = phi(o.query[token * shape.dim + f]) / normalizer[token];
            for (std::int64_t d = 0; d <= shape.value_dim; ++d) {
              const bool one = d == shape.value_dim;
              const std::int64_t value = token * shape.value_dim + d;
              if (i >= last) keys[row + d] += key * (one ? 1 : o.value[value]);
              if (i < first) gradients[row + d] += query * (one ? -dot : o.d_out[value]);
            }
          }
        }
      }
      t.device.run(LinearAttentionSum{
          .state = t.before, .key = t.key, .value = t.value, .document_starts = t.document_starts});
      t.device.run(LinearAttentionGradientSum{.state = t.after,
                                              .query = t.query,
                                              .d_out = t.d_out,
                                              .out = t.out,
                                              .normalizer = t.normalizer,
                                              .document_starts = t.document_starts});
      EXPECT_LT(worst_relative(t.get(t.before), keys), 1e-13) << shape.tokens;
      EXPECT_LT(worst_relative(t.get(t.after), gradients), 1e-13) << shape.tokens;
    }
  }
}

TEST(LinearAttention, SumsOfAnEmptyShardAreZero) {
  const Operands operands({0, 2, 4, 4, {}});
  Tensors<float> tensors(operands, 2);
  tensors.before.as<float>()[3] = 5;
  tensors.device.run(
      LinearAttentionSum{.state = tensors.before, .key = tensors.key, .value = tensors.value});
  EXPECT_EQ(tensors.before.as<float>()[3], 0);
  tensors.forward(false);
  tensors.backward(false, false);
}

TEST(LinearAttention, BrokenContractsNameTheOperand) {
  const Operands operands({8, 2, 4, 4, {}});
  Tensors<float> tensors(operands, 1);
  LinearAttention operation{.out = tensors.out,
                            .normalizer = tensors.normalizer,
                            .query = tensors.query,
                            .key = tensors.key,
                            .value = tensors.value};
  operation.key = tensors.key.rows(0, 7);
  try {
    tensors.device.run(operation);
    FAIL() << "a key of another length was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("LinearAttention.key is f32[7, 2, 4]"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace longscan

// One more token of linear attention on the GPU, for generation: a block a head, bound by the state
// that it reads and writes.
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/linear_attention_features.h"

namespace longscan {

namespace {

using namespace gpu_attention;

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;

template <class T>
struct StepPass {
  Call<T> call;
  Rows<T> out;
  float* state;  ///< [heads, features, columns]
};

__device__ float sum_over_warp(float number) {
  for (int bits = 1; bits < 32; bits *= 2) number += __shfl_xor_sync(0xffffffffu, number, bits);
  return number;
}

/// What the map applies to, of the token's query and key, found by a warp. Keys of exponential maps
/// lose |x~|^2 / 2.
template <class T>
__device__ void project_token(const Map& map, const T* query, const T* key, int feature,
                              float& of_query, float& of_key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (!map.projected()) {
    of_query = to_float(query[feature]);
    of_key = to_float(key[feature]);
    return;
  }
  const bool negated = feature >= map.projections;
  const float scale = negated ? -map.scale : map.scale;
  const T* row = static_cast<const T*>(map.projection) +
                 static_cast<std::int64_t>(negated ? feature - map.projections : feature) * map.dim;
  float query_product = 0, key_product = 0, square = 0;
  for (int d = lane; d < map.dim; d += 32) {
    const float weight = to_float(row[d]), number = to_float(key[d]);
    query_product += weight * to_float(query[d]);
    key_product += weight * number;
    square += number * number;
  }
  of_query = scale * sum_over_warp(query_product);
  of_key = scale * sum_over_warp(key_product);
  if (map.exponential()) of_key -= scale * scale * sum_over_warp(square) / 2;
}

/// Leaves features of query and key, and what the state's sums are multiplied by; the state's
/// exponents rise.
template <class T>
__device__ void find_features(const Call<T>& call, float* state, std::int64_t head, float* query,
                              float* key, float* ratio) {
  const Map& map = call.map;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const bool attended = call.key_mask == nullptr || call.key_mask[0] != 0;
  const int columns = call.state_columns();
  for (int f = warp; f < map.features; f += kWarps) {
    float q = 0, k = 0;
    project_token(map, call.query.row(0, head), call.key.row(0, head), f, q, k);
    if (lane != 0) continue;
    ratio[f] = 1;
    if (map.exponential()) {
      float& exponent = state[static_cast<std::int64_t>(f) * columns + columns - 1];
      const float before = exponent, highest = attended ? fmaxf(before, k) : before;
      exponent = highest;
      ratio[f] = expf(before - reference_of(highest));
      query[f] = q + highest;  // its exponent still, relative to nothing
      key[f] = attended ? expf(k - reference_of(highest)) : 0.0f;
    } else {
      query[f] = feature_of<T>(map.kind, q);
      key[f] = attended ? feature_of<T>(map.kind, k) : 0.0f;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) step_token(const __grid_constant__ StepPass<T> pass) {
  const Call<T>& call = pass.call;
  const Map& map = call.map;
  const int columns = call.state_columns(), value_dim = call.value_dim;
  const std::int64_t head = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  SharedArena arena;
  auto* query = arena.take<float>(map.features);
  auto* key = arena.take<float>(map.features);
  auto* ratio = arena.take<float>(map.features);
  auto* partial = arena.take<float>(static_cast<std::size_t>(kWarps) * (value_dim + 1));
  float* state = pass.state + head * call.state_size();
  find_features(call, state, head, query, key, ratio);
  __syncthreads();
  float offset = 0;
  if (map.exponential()) {
    float largest = kNone;
    for (int f = 0; f < map.features; ++f) largest = fmaxf(largest, query[f]);
    offset = reference_of(largest);
  }
  const T* value = call.value.row(0, head);
  for (int column = lane; column <= value_dim; column += 32) {
    const float number = column < value_dim ? to_float(value[column]) : 1.0f;
    float total = 0;
    for (int f = warp; f < map.features; f += kWarps) {
      float& sum = state[static_cast<std::int64_t>(f) * columns + column];
      sum = sum * ratio[f] + key[f] * number;
      total += sum * (map.exponential() ? expf(query[f] - offset) : query[f]);
    }
    partial[warp * (value_dim + 1) + column] = total;
  }
  __syncthreads();
  float normalizer = 0;
  for (int w = 0; w < kWarps; ++w) normalizer += partial[w * (value_dim + 1) + value_dim];
  const float inverse = normalizer == 0 ? 0.0f : 1 / normalizer;
  for (int d = static_cast<int>(threadIdx.x); d < value_dim; d += kThreads) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += partial[w * (value_dim + 1) + d];
    pass.out.row(0, head)[d] = from_float<T>(total * inverse);
  }
}

}  // namespace

void execute(Cuda& cuda, const LinearAttentionStep& op) {
  const LinearAttentionInput& input = op.input;
  const std::int64_t heads = input.query.shape[1], value_dim = input.value.shape[2];
  if (heads == 0) return;
  for_gpu_type(input.query.dtype, [&]<class T>() {
    StepPass<T> pass{.call = {.query = Rows<T>::of(input.query),
                              .key = Rows<T>::of(input.key),
                              .value = Rows<T>::of(input.value),
                              .map = Map::of(input.feature_map, input.query.shape[2]),
                              .tokens = 1,
                              .heads = heads,
                              .value_dim = static_cast<int>(value_dim)},
                     .out = Rows<T>::of(op.out),
                     .state = op.state.as<float>()};
    if (input.key_mask.present()) pass.call.key_mask = input.key_mask.as<std::uint8_t>();
    const auto bytes = [](std::int64_t count) { return (count * 4 + 127) / 128 * 128; };
    launch(step_token<T>, Grid(heads), dim3(kThreads),
           3 * bytes(pass.call.map.features) + bytes(kWarps * (value_dim + 1)), cuda.stream(),
           pass);
  });
}

}  // namespace longscan

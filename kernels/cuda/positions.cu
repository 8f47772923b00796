// Positions on the GPU: angles are reduced in double, so that they are exact on very long lines.
#include <cmath>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/threads.h"
#include "kernels/embedding.h"

namespace longscan {

namespace {

// A number as the unevaluated sum of two doubles, 106 bits in all (Dekker 1971). A position of 2^40
// times a frequency must keep its fraction of a turn to 24 bits, more than one double has.
struct DoubleDouble {
  double high;
  double low;
};

__host__ __device__ DoubleDouble operator*(DoubleDouble a, DoubleDouble b) {
  const double product = a.high * b.high;
  const double rest = fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high);
  const double high = product + rest;
  return {high, rest - (high - product)};
}

__host__ __device__ DoubleDouble power(DoubleDouble base, std::int64_t exponent) {
  DoubleDouble result = {1.0, 0.0};
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = result * base;
    base = base * base;
  }
  return result;
}

// 10000^(-1/count): the double nearest to it, corrected by one step of Newton's method.
DoubleDouble frequency_ratio(std::int64_t count) {
  const double nearest = std::pow(10000.0, -1.0 / static_cast<double>(count));
  const DoubleDouble one = DoubleDouble{10000.0, 0.0} * power({nearest, 0.0}, count);
  const double error = (one.high - 1.0) + one.low;
  return {nearest, -nearest * error / static_cast<double>(count)};
}

// Frequencies 10000^(-i/count) in turns per position.
__global__ void fill_frequencies(DoubleDouble* frequencies, std::int64_t count,
                                 const __grid_constant__ DoubleDouble ratio) {
  const std::int64_t i = thread_number();
  if (i >= count) return;
  const DoubleDouble unit = {0x1.45f306dc9c883p-3, -0x1.6b01ec5417056p-57};  // 1 / (2 pi)
  frequencies[i] = unit * power(ratio, i);
}

DoubleDouble* make_frequencies(Cuda& cuda, std::int64_t count) {
  auto* frequencies = cuda.scratch<DoubleDouble>(count);
  launch_threads(count, cuda.stream(), fill_frequencies, frequencies, count,
                 frequency_ratio(count));
  return frequencies;
}

struct Wave {
  float sine;
  float cosine;
};

// Of an angle without its whole turns; the first difference is exact but for one rounding of the
// small result.
__device__ Wave wave_at(std::int64_t position, DoubleDouble frequency) {
  const auto place = static_cast<double>(position);
  const double whole = rint(place * frequency.high);
  const double turns = fma(place, frequency.low, fma(place, frequency.high, -whole));
  const double angle = turns * 6.283185307179586476925286766559;
  return {.sine = static_cast<float>(sin(angle)), .cosine = static_cast<float>(cos(angle))};
}

// A thread a pair of columns.
template <class T>
__global__ void add_sinusoids(T* out, const std::int64_t* position, const DoubleDouble* frequencies,
                              std::int64_t tokens, std::int64_t pairs) {
  const std::int64_t token = thread_number() / pairs;
  if (token >= tokens) return;
  const std::int64_t pair = thread_number() % pairs;
  const Wave wave = wave_at(position[token], frequencies[pair]);
  T* place = out + (token * pairs + pair) * 2;
  place[0] = from_float<T>(to_float(place[0]) + wave.sine);
  place[1] = from_float<T>(to_float(place[1]) + wave.cosine);
}

__global__ void fill_rotary_table(float* table, const std::int64_t* position,
                                  const DoubleDouble* frequencies, std::int64_t tokens,
                                  std::int64_t pairs) {
  const std::int64_t token = thread_number() / pairs;
  if (token >= tokens) return;
  const std::int64_t pair = thread_number() % pairs;
  const Wave wave = wave_at(position[token], frequencies[pair]);
  table[token * 2 * pairs + pair] = wave.cosine;
  table[(token * 2 + 1) * pairs + pair] = wave.sine;
}

// A thread a pack of pairs of one head.
template <class T, int kCount>
__global__ void turn(const __grid_constant__ Rotary rotary) {
  const std::int64_t heads = rotary.x.shape[1];
  const std::int64_t half = rotary.x.shape[2] / 2;
  const std::int64_t packs = half / kCount;
  const std::int64_t vector = thread_number() / packs;
  const std::int64_t token = vector / heads;
  if (token >= rotary.x.shape[0]) return;
  const std::int64_t column = thread_number() % packs * kCount;
  T* x = data_of<T>(rotary.x) + token * rotary.x.stride[0] + vector % heads * rotary.x.stride[1] +
         column;
  const auto* table = data_of<const float>(rotary.table) + token * 2 * half + column;
  const float direction = rotary.inverse ? -1.0f : 1.0f;
  float first[kCount];
  float second[kCount];
  float cosine[kCount];
  float sine[kCount];
  load(first, x);
  load(second, x + half);
  load(cosine, table);
  load(sine, table + half);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float before = first[i];
    first[i] = before * cosine[i] - second[i] * sine[i] * direction;
    second[i] = second[i] * cosine[i] + before * sine[i] * direction;
  }
  store(x, first);
  store(x + half, second);
}

}  // namespace

void execute(Cuda& cuda, const SinusoidalPositions& operation) {
  const auto& [out, position] = operation;
  if (out.size() == 0) return;
  const std::int64_t pairs = out.shape[1] / 2;
  const DoubleDouble* frequencies = make_frequencies(cuda, pairs);
  for_gpu_type(out.dtype, [&]<class T>() {
    launch_threads(out.shape[0] * pairs, cuda.stream(), add_sinusoids<T>, out.as<T>(),
                   position.as<const std::int64_t>(), frequencies, out.shape[0], pairs);
  });
}

void execute(Cuda& cuda, const RotaryTable& operation) {
  const auto& [table, position] = operation;
  if (table.dtype != DType::f32) refuse_on_gpu(table.dtype, "the GPU's rotary table is f32");
  if (table.size() == 0) return;
  const std::int64_t pairs = table.shape[1] / 2;
  const DoubleDouble* frequencies = make_frequencies(cuda, pairs);
  launch_threads(table.shape[0] * pairs, cuda.stream(), fill_rotary_table, table.as<float>(),
                 position.as<const std::int64_t>(), frequencies, table.shape[0], pairs);
}

void execute(Cuda& cuda, const Rotary& operation) {
  const Tensor& x = operation.x;
  if (x.size() == 0) return;
  const std::int64_t half = x.shape[2] / 2;
  for_gpu_type(x.dtype, [&]<class T>() {
    const bool vectors = rows_begin_at_vectors({x, operation.table}) && half % kVector<T> == 0;
    for_pack<T>(vectors, [&]<int kCount>() {
      launch_threads(x.shape[0] * x.shape[1] * half / kCount, cuda.stream(), turn<T, kCount>,
                     operation);
    });
  });
}

}  // namespace longscan

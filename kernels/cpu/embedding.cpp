// Embeddings and positions on the CPU.
#include "kernels/embedding.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/error.h"

namespace longscan {

namespace {

// Tokens may share an entry, so the gradient is cut by columns: each thread walks all tokens.
constexpr std::int64_t kGradientColumns = 64;

void require_indices(const char* operand, const Tensor& index, std::int64_t entries) {
  for_index_type(index.dtype, [&]<class Index>() {
    for (std::int64_t token = 0; token < index.shape[0]; ++token) {
      const auto entry = static_cast<std::int64_t>(index.as<Index>()[token]);
      if (entry >= 0 && entry < entries) continue;
      throw Error(ErrorKind::data, {.what = fmt::format("{} {} of token {} is outside the table",
                                                        operand, entry, token),
                                    .why = fmt::format("the table has {} entries", entries)});
    }
  });
}

template <class T, class Index>
void look_up(Cpu& cpu, const Embedding& operation) {
  const std::int64_t width = operation.out.shape[1];
  const Index* index = operation.index.as<Index>();
  const auto look_up_rows = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      T* out = operation.out.as<T>() + token * width;
      const T* entry = operation.table.as<T>() + index[token] * width;
      if (operation.accumulate) {
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) out[i] += entry[i];
      } else {
        std::copy(entry, entry + width, out);
      }
    }
  };
  cpu.for_blocks(operation.out.shape[0], block_rows(width), look_up_rows);
}

template <class T, class Index>
void add_gradient(Cpu& cpu, const EmbeddingBackward& operation) {
  const std::int64_t tokens = operation.d_out.shape[0];
  const std::int64_t width = operation.d_out.shape[1];
  const Index* index = operation.index.as<Index>();
  const auto add_columns = [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = 0; token < tokens; ++token) {
      T* d_entry = operation.d_table.as<T>() + index[token] * width;
      const T* d_out = operation.d_out.as<T>() + token * width;
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) d_entry[i] += d_out[i];
    }
  };
  const bool small = tokens * width <= kBlockNumbers;
  cpu.for_blocks(width, small ? std::max<std::int64_t>(width, 1) : kGradientColumns, add_columns);
}

// A number as the unevaluated sum of two doubles, 106 bits in all (Dekker 1971). A position of 2^40
// times a frequency must keep its fraction of a turn to 24 bits, more than one double has.
struct DoubleDouble {
  double high;
  double low;
};

DoubleDouble operator*(DoubleDouble a, DoubleDouble b) {
  const double product = a.high * b.high;
  const double rest = std::fma(a.high, b.high, -product) + (a.high * b.low + a.low * b.high);
  const double high = product + rest;
  return {high, rest - (high - product)};
}

// 10000^(-1/count): the double nearest to it, corrected by one step of Newton's method.
DoubleDouble frequency_ratio(std::int64_t count) {
  const double nearest = std::pow(10000.0, -1.0 / static_cast<double>(count));
  DoubleDouble power = {10000.0, 0.0};
  for (std::int64_t i = 0; i < count; ++i) power = power * DoubleDouble{nearest, 0.0};
  const double error = (power.high - 1.0) + power.low;
  return {nearest, -nearest * error / static_cast<double>(count)};
}

// Frequencies 10000^(-i/count) in turns per position, i < count.
struct Frequencies {
  double* high;
  double* low;
  std::int64_t count;

  Frequencies(Cpu& cpu, std::int64_t dim)
      : high(cpu.shared_scratch<double>(dim)), low(high + dim / 2), count(dim / 2) {
    const DoubleDouble ratio = frequency_ratio(count);
    DoubleDouble frequency = {0x1.45f306dc9c883p-3, -0x1.6b01ec5417056p-57};  // 1 / (2 pi)
    for (std::int64_t i = 0; i < count; ++i) {
      high[i] = frequency.high;
      low[i] = frequency.low;
      frequency = frequency * ratio;
    }
  }

  // The angle at `position` without its whole turns; the first difference is exact but for one
  // rounding of the small result.
  [[gnu::always_inline]] vector_math::SineCosine at(double position, std::int64_t i) const {
    const double whole = std::rint(position * high[i]);
    const double turns = std::fma(position, low[i], std::fma(position, high[i], -whole));
    return vector_math::sine_cosine_of_turns(turns);
  }
};

// One head's vector by its angles; direction -1 turns back.
template <class T>
void turn(T* x, const T* table, T direction, std::int64_t half) {
#pragma omp simd
  for (std::int64_t i = 0; i < half; ++i) {
    const T cosine = table[i];
    const T sine = table[half + i] * direction;
    const T first = x[i];
    const T second = x[half + i];
    x[i] = first * cosine - second * sine;
    x[half + i] = second * cosine + first * sine;
  }
}

}  // namespace

void execute(Cpu& cpu, const Embedding& operation) {
  require_indices("index", operation.index, operation.table.shape[0]);
  for_float_type(operation.out.dtype, [&]<class T>() {
    for_index_type(operation.index.dtype,
                   [&]<class Index>() { look_up<T, Index>(cpu, operation); });
  });
}

void execute(Cpu& cpu, const EmbeddingBackward& operation) {
  require_indices("index", operation.index, operation.d_table.shape[0]);
  for_float_type(operation.d_table.dtype, [&]<class T>() {
    for_index_type(operation.index.dtype,
                   [&]<class Index>() { add_gradient<T, Index>(cpu, operation); });
  });
}

void execute(Cpu& cpu, const SinusoidalPositions& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    const std::int64_t width = operation.out.shape[1];
    const Frequencies frequencies(cpu, width);
    const auto add_rows = [&](std::int64_t begin, std::int64_t end, int) {
      const Frequencies local = frequencies;  // a copy that no store in the loop can change
      for (std::int64_t token = begin; token < end; ++token) {
        const auto position = static_cast<double>(operation.position.as<std::int64_t>()[token]);
        T* out = operation.out.as<T>() + token * width;
#pragma omp simd
        for (std::int64_t i = 0; i < local.count; ++i) {
          const auto [sine, cosine] = local.at(position, i);
          out[2 * i] += static_cast<T>(sine);
          out[2 * i + 1] += static_cast<T>(cosine);
        }
      }
    };
    cpu.for_blocks(operation.out.shape[0], block_rows(width), add_rows);
  });
}

void execute(Cpu& cpu, const RotaryTable& operation) {
  for_float_type(operation.table.dtype, [&]<class T>() {
    const std::int64_t dim = operation.table.shape[1];
    const Frequencies frequencies(cpu, dim);
    const auto fill_rows = [&](std::int64_t begin, std::int64_t end, int) {
      const Frequencies local = frequencies;  // a copy that no store in the loop can change
      for (std::int64_t token = begin; token < end; ++token) {
        const auto position = static_cast<double>(operation.position.as<std::int64_t>()[token]);
        T* cosines = operation.table.as<T>() + token * dim;
        T* sines = cosines + local.count;
#pragma omp simd
        for (std::int64_t i = 0; i < local.count; ++i) {
          const auto [sine, cosine] = local.at(position, i);
          cosines[i] = static_cast<T>(cosine);
          sines[i] = static_cast<T>(sine);
        }
      }
    };
    cpu.for_blocks(operation.table.shape[0], block_rows(dim), fill_rows);
  });
}

void execute(Cpu& cpu, const Rotary& operation) {
  const Tensor& x = operation.x;
  const std::int64_t heads = x.shape[1];
  const std::int64_t dim = x.shape[2];
  for_float_type(x.dtype, [&]<class T>() {
    const T direction = operation.inverse ? T{-1} : T{1};
    const auto turn_rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t token = begin; token < end; ++token) {
        const T* table = operation.table.as<T>() + token * dim;
        for (std::int64_t head = 0; head < heads; ++head) {
          turn(x.as<T>() + token * x.stride[0] + head * x.stride[1], table, direction, dim / 2);
        }
      }
    };
    cpu.for_blocks(x.shape[0], block_rows(heads * dim), turn_rows);
  });
}

}  // namespace longscan

// Elementwise operations on the CPU: one vectorised pass each, cut into blocks for the threads.
#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#include "kernels/bfloat16.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/philox.h"
#include "kernels/cpu/vector_math.h"

namespace longscan {

namespace {

using vector_math::Gelu;
using vector_math::sigmoid;

// out[i] = function(in[i]) over dense tensors.
template <class T, class Function>
void map(Cpu& cpu, const Tensor& out, const Tensor& in, const Function& function) {
  cpu.for_blocks(out.size(), kBlockNumbers, [&](std::int64_t begin, std::int64_t end, int) {
    T* to = out.as<T>();
    const T* from = in.as<T>();
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) to[i] = function(from[i]);
  });
}

// out[i] = function(a[i], b[i]) over dense tensors.
template <class T, class Function>
void map(Cpu& cpu, const Tensor& out, const Tensor& a, const Tensor& b, const Function& function) {
  cpu.for_blocks(out.size(), kBlockNumbers, [&](std::int64_t begin, std::int64_t end, int) {
    T* to = out.as<T>();
    const T* left = a.as<T>();
    const T* right = b.as<T>();
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) to[i] = function(left[i], right[i]);
  });
}

// out[i] = in[i] * scale, or 0 where the word of element first + i is below the threshold.
template <class T>
void drop(T* out, const T* in, std::int64_t count, T scale, std::uint32_t threshold,
          const RandomKey& key, std::uint64_t first) {
  RandomTile tile;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled before it is read
  while (count > 0) {
    tile.fill(key, first / 4);
    const auto skipped = static_cast<std::int64_t>(first % 4);
    const std::uint32_t* words = tile.words() + skipped;
    const std::int64_t taken = std::min(count, RandomTile::kWords - skipped);
#pragma omp simd
    for (std::int64_t i = 0; i < taken; ++i) {
      const T kept = in[i] * scale;
      out[i] = words[i] < threshold ? T{0} : kept;
    }
    out += taken;
    in += taken;
    count -= taken;
    first += static_cast<std::uint64_t>(taken);
  }
}

}  // namespace

void execute(Cpu& cpu, const Copy& operation) {
  const Tensor& out = operation.out;
  const Tensor& in = operation.in;
  const int last = out.rank - 1;
  const std::int64_t columns = out.shape[last];
  const std::int64_t bytes = columns * size_of(out.dtype);
  // A row is what lies without gaps; the first of three dimensions counts rows of rows.
  const std::int64_t inner = out.rank == 3 ? out.shape[1] : 1;
  const std::int64_t rows = out.rank == 1 ? 1 : out.shape[0] * inner;
  const auto row_of = [&](const Tensor& tensor, std::int64_t row) {
    std::int64_t offset = 0;
    if (tensor.rank == 2) offset = row * tensor.stride[0];
    if (tensor.rank == 3) offset = row / inner * tensor.stride[0] + row % inner * tensor.stride[1];
    return static_cast<std::byte*>(tensor.data) + offset * size_of(tensor.dtype);
  };
  cpu.for_blocks(rows, block_rows(columns), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::memcpy(row_of(out, row), row_of(in, row), static_cast<std::size_t>(bytes));
    }
  });
}

void execute(Cpu& cpu, const Fill& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    cpu.for_blocks(operation.out.size(), kBlockNumbers,
                   [&](std::int64_t begin, std::int64_t end, int) {
                     std::fill(operation.out.as<T>() + begin, operation.out.as<T>() + end,
                               static_cast<T>(operation.value));
                   });
  });
}

void execute(Cpu& cpu, const Round& operation) {
  const auto* in = operation.in.as<float>();
  auto* out = operation.out.as<Bfloat16>();
  cpu.for_blocks(operation.in.size(), kBlockNumbers,
                 [&](std::int64_t begin, std::int64_t end, int) {
                   for (std::int64_t i = begin; i < end; ++i) out[i] = Bfloat16(in[i]);
                 });
}

void execute(Cpu& cpu, const Add& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    const std::int64_t columns = operation.out.shape[1];
    const auto a_factor = static_cast<T>(operation.a_factor);
    const auto b_factor = static_cast<T>(operation.b_factor);
    const auto add_rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t row = begin; row < end; ++row) {
        T* sum = operation.out.as<T>() + row * operation.out.stride[0];
        const T* left = operation.a.as<T>() + row * operation.a.stride[0];
        const T* right = operation.b.as<T>() + row * operation.b.stride[0];
#pragma omp simd
        for (std::int64_t i = 0; i < columns; ++i)
          sum[i] = a_factor * left[i] + b_factor * right[i];
      }
    };
    cpu.for_blocks(operation.out.shape[0], block_rows(columns), add_rows);
  });
}

void execute(Cpu& cpu, const Activation& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    switch (operation.kind) {
      case ActivationKind::gelu:
        return map<T>(cpu, operation.out, operation.in, [](T x) { return Gelu<T>::value(x); });
      case ActivationKind::relu:
        return map<T>(cpu, operation.out, operation.in, [](T x) { return x < T{0} ? T{0} : x; });
    }
  });
}

void execute(Cpu& cpu, const ActivationBackward& operation) {
  for_float_type(operation.d_in.dtype, [&]<class T>() {
    switch (operation.kind) {
      case ActivationKind::gelu:
        return map<T>(cpu, operation.d_in, operation.d_out, operation.in,
                      [](T d, T x) { return d * Gelu<T>::derivative(x); });
      case ActivationKind::relu:
        return map<T>(cpu, operation.d_in, operation.d_out, operation.in,
                      [](T d, T x) { return x > T{0} ? d : T{0}; });
    }
  });
}

void execute(Cpu& cpu, const SwiGlu& operation) {
  for_float_type(operation.out.dtype, [&]<class T>() {
    const std::int64_t hidden = operation.out.shape[1];
    const auto run_rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t row = begin; row < end; ++row) {
        T* out = operation.out.as<T>() + row * hidden;
        const T* gate = operation.in.as<T>() + row * 2 * hidden;
        const T* up = gate + hidden;
#pragma omp simd
        for (std::int64_t i = 0; i < hidden; ++i) out[i] = gate[i] * sigmoid(gate[i]) * up[i];
      }
    };
    cpu.for_blocks(operation.out.shape[0], block_rows(2 * hidden), run_rows);
  });
}

void execute(Cpu& cpu, const SwiGluBackward& operation) {
  for_float_type(operation.d_in.dtype, [&]<class T>() {
    const std::int64_t hidden = operation.d_out.shape[1];
    const auto run_rows = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t row = begin; row < end; ++row) {
        const T* d_out = operation.d_out.as<T>() + row * hidden;
        const T* gate = operation.in.as<T>() + row * 2 * hidden;
        const T* up = gate + hidden;
        T* d_gate = operation.d_in.as<T>() + row * 2 * hidden;
        T* d_up = d_gate + hidden;
#pragma omp simd
        for (std::int64_t i = 0; i < hidden; ++i) {
          const T s = sigmoid(gate[i]);
          const T silu = gate[i] * s;
          d_gate[i] = d_out[i] * up[i] * (s + silu * (T{1} - s));
          d_up[i] = d_out[i] * silu;
        }
      }
    };
    cpu.for_blocks(operation.d_out.shape[0], block_rows(2 * hidden), run_rows);
  });
}

void execute(Cpu& cpu, const Dropout& operation) {
  // The smallest word with uniform_from(word) >= rate.
  const double bound = std::ceil(operation.rate * 0x1p32 - 0.5);
  const auto threshold = static_cast<std::uint32_t>(std::clamp(bound, 0.0, 0x1p32 - 1));
  const std::uint64_t first = static_cast<std::uint64_t>(operation.first_token) *
                              static_cast<std::uint64_t>(operation.in.shape[1]);
  RandomKey key = operation.key;
  if (operation.step.present()) {
    key.step += static_cast<std::uint64_t>(*operation.step.as<std::int64_t>());
  }
  for_float_type(operation.out.dtype, [&]<class T>() {
    const T scale = static_cast<T>(1.0 / (1.0 - operation.rate));
    const auto drop_block = [&](std::int64_t begin, std::int64_t end, int) {
      drop(operation.out.as<T>() + begin, operation.in.as<T>() + begin, end - begin, scale,
           threshold, key, first + static_cast<std::uint64_t>(begin));
    };
    cpu.for_blocks(operation.in.size(), kBlockNumbers, drop_block);
  });
}

}  // namespace longscan

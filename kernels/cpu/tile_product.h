// Products of the small matrices of one chunk, kept in registers tile by tile.
//
// All operands are row-major in scratch memory with rows padded to whole vectors, so there are no
// tails along a row. BLAS spends as long on packing such matrices as on multiplying them, and
// cannot skip what lies above a diagonal.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace longscan::tile {

// The widest vector register that the kernels are compiled for, and how many fit: with 32 registers
// six rows of four vectors leave room for one row of B and a broadcast; with 16, six rows of two.
constexpr int kVectorBytes = __BIGGEST_ALIGNMENT__;
constexpr int kVectorsAtOnce = kVectorBytes == 64 ? 4 : 2;
constexpr int kRowsAtOnce = 6;

template <class T>
constexpr std::int64_t kLanes = kVectorBytes / static_cast<int>(sizeof(T));

/// `columns` rounded up to whole vectors.
template <class T>
constexpr std::int64_t padded(std::int64_t columns) {
  return (columns + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

/// The left operand: element (i, p) at data[i * row_step + p * depth_step], so a transposed one
/// costs nothing.
template <class T>
struct Left {
  const T* data;
  std::int64_t row_step;
  std::int64_t depth_step;
};

/// The right operand and the result: rows at data[i * stride].
template <class T>
struct Right {
  const T* data;
  std::int64_t stride;
};
template <class T>
struct Result {
  T* data;
  std::int64_t stride;
};

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
};

/// C (+)= A B for `Rows` rows and `Vectors` vectors of columns, over p in [0, depth).
template <class T, int Rows, int Vectors>
[[gnu::always_inline]] inline void multiply_block(Result<T> c, Left<T> a, Right<T> b,
                                                  std::int64_t depth, bool add) {
  using Vector = typename VectorOf<T>::type;
  Vector sums[Rows][Vectors];
  for (int i = 0; i < Rows; ++i) {
    for (int v = 0; v < Vectors; ++v) {
      sums[i][v] =
          add ? *reinterpret_cast<Vector*>(c.data + i * c.stride + v * kLanes<T>) : Vector{};
    }
  }
  for (std::int64_t p = 0; p < depth; ++p) {
    Vector row[Vectors];
    for (int v = 0; v < Vectors; ++v) {
      row[v] = *reinterpret_cast<const Vector*>(b.data + p * b.stride + v * kLanes<T>);
    }
    for (int i = 0; i < Rows; ++i) {
      const T factor = a.data[i * a.row_step + p * a.depth_step];
      for (int v = 0; v < Vectors; ++v) sums[i][v] += factor * row[v];
    }
  }
  for (int i = 0; i < Rows; ++i) {
    for (int v = 0; v < Vectors; ++v) {
      *reinterpret_cast<Vector*>(c.data + i * c.stride + v * kLanes<T>) = sums[i][v];
    }
  }
}

/// The same for `rows` <= Rows rows, known only at run time.
template <class T, int Rows, int Vectors>
[[gnu::always_inline]] inline void multiply_rows(Result<T> c, Left<T> a, Right<T> b,
                                                 std::int64_t depth, bool add, std::int64_t rows) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_rows<T, Rows - 1, Vectors>(c, a, b, depth, add, rows);
  }
  multiply_block<T, Rows, Vectors>(c, a, b, depth, add);
}

/// The same for any number of vectors.
template <class T>
[[gnu::noinline]] void multiply_band(Result<T> c, Left<T> a, Right<T> b, std::int64_t rows,
                                     std::int64_t columns, std::int64_t depth, bool add) {
  constexpr std::int64_t kStep = kVectorsAtOnce * kLanes<T>;
  std::int64_t column = 0;
  const auto at = [&](std::int64_t first) {
    return std::pair{Result<T>{c.data + first, c.stride}, Right<T>{b.data + first, b.stride}};
  };
  for (; column + kStep <= columns; column += kStep) {
    const auto [out, right] = at(column);
    multiply_rows<T, kRowsAtOnce, kVectorsAtOnce>(out, a, right, depth, add, rows);
  }
  for (; column < columns; column += kLanes<T>) {
    const auto [out, right] = at(column);
    multiply_rows<T, kRowsAtOnce, 1>(out, a, right, depth, add, rows);
  }
}

/// Which elements of a square operand count.
enum class Shape {
  full,
  lower_result,  ///< C's elements above the diagonal are not needed (whole vectors of them are left
                 ///< as they are)
  lower_left,    ///< A(i, p) = 0 for p > i
  upper_left,    ///< A(i, p) = 0 for p < i
};

/// C = A B, or C += A B with `add`; C is [rows, columns], `columns` a multiple of the vector; depth
/// = columns of A.
template <class T>
void multiply(Result<T> c, Left<T> a, Right<T> b, std::int64_t rows, std::int64_t columns,
              std::int64_t depth, bool add, Shape shape = Shape::full) {
  for (std::int64_t row = 0; row < rows; row += kRowsAtOnce) {
    const std::int64_t band = std::min<std::int64_t>(kRowsAtOnce, rows - row);
    std::int64_t first = 0;
    std::int64_t last = depth;
    std::int64_t width = columns;
    if (shape == Shape::lower_result) width = std::min(columns, padded<T>(row + band));
    if (shape == Shape::lower_left) last = std::min(depth, row + band);
    if (shape == Shape::upper_left) first = row;
    multiply_band<T>({c.data + row * c.stride, c.stride},
                     {a.data + row * a.row_step + first * a.depth_step, a.row_step, a.depth_step},
                     {b.data + first * b.stride, b.stride}, band, width, last - first, add);
  }
}

/// Which lanes of two vectors interleave: 0, n, 1, n + 1, ... for the lower halves, the same from n
/// / 2 on for the upper ones.
template <class T, class Index>
struct Interleave {
  alignas(kVectorBytes) Index lower[kLanes<T>];
  alignas(kVectorBytes) Index upper[kLanes<T>];
  constexpr Interleave() : lower(), upper() {
    for (Index i = 0; i < kLanes<T>; ++i) {
      const Index source = i / 2 + (i % 2) * kLanes<T>;
      lower[i] = source;
      upper[i] = source + kLanes<T> / 2;
    }
  }
};

/// Transposes a square of as many rows as a vector has lanes, in registers: each round interleaves
/// the first half of the rows with the second, and after log2(lanes) rounds rows have become
/// columns.
template <class T>
void transpose_square(T* out, std::int64_t out_stride, const T* in, std::int64_t in_stride) {
  using Index = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  using Vector = typename VectorOf<T>::type;
  using Indices = typename VectorOf<Index>::type;
  static constexpr Interleave<T, Index> kOrder;
  constexpr int kSize = static_cast<int>(kLanes<T>);
  const Indices lower = *reinterpret_cast<const Indices*>(kOrder.lower);
  const Indices upper = *reinterpret_cast<const Indices*>(kOrder.upper);
  Vector rows[kSize];
  Vector mixed[kSize];
  for (int i = 0; i < kSize; ++i) rows[i] = *reinterpret_cast<const Vector*>(in + i * in_stride);
  for (int round = kSize; round > 1; round /= 2) {
    for (int i = 0; i < kSize / 2; ++i) {
      mixed[2 * i] = __builtin_shuffle(rows[i], rows[i + kSize / 2], lower);
      mixed[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + kSize / 2], upper);
    }
    for (int i = 0; i < kSize; ++i) rows[i] = mixed[i];
  }
  for (int i = 0; i < kSize; ++i) *reinterpret_cast<Vector*>(out + i * out_stride) = rows[i];
}

/// out[j, i] = in[i, j] for rows x columns of `in`. Both are read and written in whole squares of
/// vectors, so their memory must reach that far; what lies outside is copied along and means
/// nothing.
template <class T>
void transpose(T* out, std::int64_t out_stride, const T* in, std::int64_t in_stride,
               std::int64_t rows, std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; i += kLanes<T>) {
    for (std::int64_t j = 0; j < columns; j += kLanes<T>) {
      transpose_square(out + j * out_stride + i, out_stride, in + i * in_stride + j, in_stride);
    }
  }
}

}  // namespace longscan::tile

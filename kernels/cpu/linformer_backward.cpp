// Linformer on the CPU, backward: softmaxes are made again from their scores, block by block, and
// every gradient is summed up by one thread from beginning to end.
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/linformer_parts.h"
#include "kernels/cpu/softmax.h"
#include "kernels/linformer.h"

namespace longscan {

namespace {

using namespace linformer;

// The softmax of a run's queries over some rows of the projected keys, and the gradient of its
// scores, already times 1 / sqrt(dim).
template <class T>
class Slopes {
 public:
  /// `memory` has room for `count` numbers.
  Slopes(T* memory, std::int64_t rows)
      : weights{memory, rows}, slopes{memory + kTokens * rows, rows} {}
  static std::int64_t count(std::int64_t rows) { return 2 * kTokens * rows; }

  /// sums: [rows, 2 * dim], the rows that count.
  void fill(const LinformerQueries& queries, const LinformerGradient& gradient, const Run& run,
            std::int64_t head, Matrix<T> sums) const {
    const std::int64_t heads = queries.query.shape[1];
    const std::int64_t dim = queries.query.shape[2];
    const Matrix<T> query = head_rows<T>(queries.query, head).at(run.begin, 0);
    const Matrix<T> out = head_rows<T>(gradient.out, head).at(run.begin, 0);
    const Matrix<T> d_out = head_rows<T>(gradient.d_out, head).at(run.begin, 0);
    const T scale = scale_of<T>(dim);
    Product<T> product{
        .m = run.size(), .n = weights.stride, .depth = dim, .transpose_b = true, .alpha = scale};
    product.run(weights, query, sums);
    product.run(slopes, d_out, sums.at(0, dim));
    for (std::int64_t i = 0; i < run.size(); ++i) {
      T mean = 0;
#pragma omp simd reduction(+ : mean)
      for (std::int64_t d = 0; d < dim; ++d) mean += d_out.row(i)[d] * out.row(i)[d];
      mean *= scale;
      const T log_sum = gradient.log_sum.as<T>()[(run.begin + i) * heads + head];
      T* weight = weights.row(i);
      T* slope = slopes.row(i);
#pragma omp simd
      for (std::int64_t r = 0; r < weights.stride; ++r) {
        weight[r] = vector_math::exp(weight[r] - log_sum);
        slope[r] = weight[r] * (slope[r] - mean);
      }
    }
  }

  Matrix<T> weights;  ///< [run, rows]
  Matrix<T> slopes;   ///< [run, rows]
};

// Some rows of a document's d_projected of one head.
template <class T>
void sum_queries(const LinformerBackwardProjected& op, const Run& document, std::int64_t head,
                 std::int64_t row, const Slopes<T>& softmax) {
  const std::int64_t heads = op.queries.query.shape[1];
  const std::int64_t dim = op.queries.query.shape[2];
  const std::int64_t index = document.document * heads + head;
  const Matrix<T> d_sums = sums_of<T>(op.d_projected, index).at(row, 0);
  for (std::int64_t begin = document.begin; begin < document.end; begin += kTokens) {
    const Run run{document.document, begin, std::min(document.end, begin + kTokens)};
    softmax.fill(op.queries, op.gradient, run, head,
                 sums_of<T>(op.queries.projected, index).at(row, 0));
    Product<T> product{.m = softmax.weights.stride,
                       .n = dim,
                       .depth = run.size(),
                       .transpose_a = true,
                       .add = begin > document.begin};
    product.run(d_sums, softmax.slopes, head_rows<T>(op.queries.query, head).at(begin, 0));
    product.run(d_sums.at(0, dim), softmax.weights,
                head_rows<T>(op.gradient.d_out, head).at(begin, 0));
  }
}

template <class T>
void differentiate_projected(Cpu& cpu, const LinformerBackwardProjected& op) {
  const std::int64_t heads = op.queries.query.shape[1];
  const std::int64_t length = op.d_projected.shape[1];
  const std::int64_t blocks = count_blocks(length, kRows);
  const Documents documents(op.queries.document_starts, op.queries.query.shape[0]);
  cpu.for_each(documents.count() * heads * blocks, [&](std::int64_t index, int thread) {
    const std::int64_t row = index % blocks * kRows;
    const std::int64_t rows = std::min(kRows, length - row);
    const Slopes<T> softmax(cpu.scratch<T>(thread, Slopes<T>::count(kRows)), rows);
    sum_queries<T>(op, documents.at(index / (heads * blocks)), index / blocks % heads, row,
                   softmax);
  });
}

template <class T>
void differentiate_query(Cpu& cpu, const LinformerBackwardQuery& op) {
  const std::int64_t tokens = op.d_query.shape[0];
  const std::int64_t heads = op.d_query.shape[1];
  const std::int64_t dim = op.d_query.shape[2];
  const std::int64_t length = op.queries.projected.shape[1];
  const std::int64_t blocks = count_blocks(tokens, kTokens);
  const Documents documents(op.queries.document_starts, tokens);
  cpu.for_each(heads * blocks, [&](std::int64_t index, int thread) {
    const std::int64_t begin = index % blocks * kTokens;
    const std::int64_t head = index / blocks;
    const Slopes<T> softmax(cpu.scratch<T>(thread, Slopes<T>::count(length)), length);
    documents.for_each(begin, std::min(tokens, begin + kTokens), [&](const Run& run) {
      const Matrix<T> sums = sums_of<T>(op.queries.projected, run.document * heads + head);
      softmax.fill(op.queries, op.gradient, run, head, sums);
      Product<T>{.m = run.size(), .n = dim, .depth = length}.run(
          head_rows<T>(op.d_query, head).at(run.begin, 0), softmax.slopes, sums);
    });
  });
}

// d_key and d_value of a run: its columns of the projections, transposed, times the sums.
template <class T>
void differentiate_run(const LinformerBackwardKeys& op, const Run& run, std::int64_t head) {
  const LinformerKeys& keys = op.keys;
  const std::int64_t dim = keys.key.shape[2];
  const std::int64_t length = op.d_projected.shape[1];
  const std::int64_t place = keys.position.as<std::int64_t>()[run.begin];
  const Matrix<T> d_sums = sums_of<T>(op.d_projected, run.document * keys.key.shape[1] + head);
  const auto spread = [&](const Tensor& d_tokens, const Tensor& projection, std::int64_t column) {
    const Matrix<T> d_rows = head_rows<T>(d_tokens, head).at(run.begin, 0);
    Product<T>{.m = run.size(), .n = dim, .depth = length, .transpose_a = true}.run(
        d_rows, projection_of<T>(projection, head, length).at(0, place), d_sums.at(0, column));
    if (!keys.key_mask.present()) return;
    const std::uint8_t* kept = keys.key_mask.as<std::uint8_t>() + run.begin;
    for (std::int64_t i = 0; i < run.size(); ++i) {
      if (kept[i] == 0) std::fill_n(d_rows.row(i), dim, T{0});
    }
  };
  spread(op.d_key, keys.key_projection, 0);
  spread(op.d_value, keys.value_projection, dim);
}

// Columns [first, last) of d E and d F get what one document's tokens of one head add to them.
template <class T>
void add_columns(const LinformerBackwardKeys& op, const Run& document, std::int64_t head,
                 std::int64_t first, std::int64_t last, T* copy) {
  const LinformerKeys& keys = op.keys;
  const std::int64_t dim = keys.key.shape[2];
  const std::int64_t length = op.d_projected.shape[1];
  const std::int64_t place = keys.position.as<std::int64_t>()[document.begin];
  first = std::max(first, place);
  last = std::min(last, place + document.size());
  if (first >= last) return;
  const std::int64_t begin = document.begin + first - place;
  const std::int64_t end = document.begin + last - place;
  const Matrix<T> d_sums = sums_of<T>(op.d_projected, document.document * keys.key.shape[1] + head);
  const auto add = [&](const Tensor& d_projection, const Tensor& tokens, std::int64_t column) {
    Product<T>{.m = length, .n = last - first, .depth = dim, .transpose_b = true, .add = true}.run(
        projection_of<T>(d_projection, head, length).at(0, first), d_sums.at(0, column),
        unmasked<T>(tokens, head, begin, end, keys.key_mask, copy));
  };
  add(op.d_key_projection, keys.key, 0);
  add(op.d_value_projection, keys.value, dim);
}

template <class T>
void differentiate_projections(Cpu& cpu, const LinformerBackwardKeys& op,
                               const Documents& documents) {
  const std::int64_t heads = op.keys.key.shape[1];
  const std::int64_t dim = op.keys.key.shape[2];
  const std::int64_t places = op.d_key_projection.shape[1];
  const std::int64_t matrices = op.d_key_projection.shape[0] / op.d_projected.shape[1];
  const std::int64_t heads_of_each = heads / matrices;
  const std::int64_t blocks = count_blocks(places, kColumns);
  cpu.for_each(matrices * blocks, [&](std::int64_t index, int thread) {
    const std::int64_t first = index % blocks * kColumns;
    const std::int64_t head = index / blocks * heads_of_each;
    T* copy = cpu.scratch<T>(thread, kColumns * dim);
    for (std::int64_t document = 0; document < documents.count(); ++document) {
      for (std::int64_t h = head; h < head + heads_of_each; ++h) {
        add_columns<T>(op, documents.at(document), h, first, std::min(places, first + kColumns),
                       copy);
      }
    }
  });
}

template <class T>
void differentiate_keys(Cpu& cpu, const LinformerBackwardKeys& op) {
  const std::int64_t tokens = op.keys.key.shape[0];
  const std::int64_t blocks = count_blocks(tokens, kTokens);
  const Documents documents(op.keys.document_starts, tokens);
  documents.require_places(op.keys);
  cpu.for_each(op.keys.key.shape[1] * blocks, [&](std::int64_t index, int) {
    const std::int64_t begin = index % blocks * kTokens;
    documents.for_each(begin, std::min(tokens, begin + kTokens),
                       [&](const Run& run) { differentiate_run<T>(op, run, index / blocks); });
  });
  differentiate_projections<T>(cpu, op, documents);
}

}  // namespace

void execute(Cpu& cpu, const LinformerBackwardProjected& op) {
  for_float_type(op.d_projected.dtype, [&]<class T>() { differentiate_projected<T>(cpu, op); });
}

void execute(Cpu& cpu, const LinformerBackwardQuery& op) {
  for_float_type(op.d_query.dtype, [&]<class T>() { differentiate_query<T>(cpu, op); });
}

void execute(Cpu& cpu, const LinformerBackwardKeys& op) {
  for_float_type(op.d_key.dtype, [&]<class T>() { differentiate_keys<T>(cpu, op); });
}

}  // namespace longscan

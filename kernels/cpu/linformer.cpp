// Linformer on the CPU, forward: every projected row and every token's output is made by one thread
// from beginning to end, so results are the same bits on any number of them.
#include "kernels/linformer.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/linformer_parts.h"
#include "kernels/cpu/softmax.h"

namespace longscan {

namespace {

using namespace linformer;

// Rows [row, row + rows) of a document's projected keys, or values, of one head.
template <class T>
void project_rows(Matrix<T> sum, const Run& run, const Tensor& tokens, std::int64_t head,
                  Matrix<T> projection, std::int64_t rows, const Tensor& mask, T* copy) {
  const std::int64_t dim = tokens.shape[2];
  for (std::int64_t begin = run.begin; begin < run.end; begin += kTokens) {
    const std::int64_t end = std::min(run.end, begin + kTokens);
    Product<T>{.m = rows, .n = dim, .depth = end - begin, .add = begin > run.begin}.run(
        sum, projection.at(0, begin - run.begin),
        unmasked<T>(tokens, head, begin, end, mask, copy));
  }
}

template <class T>
void project(Cpu& cpu, const LinformerProject& op) {
  const LinformerKeys& keys = op.keys;
  const std::int64_t heads = keys.key.shape[1];
  const std::int64_t dim = keys.key.shape[2];
  const std::int64_t length = op.projected.shape[1];
  const std::int64_t blocks = count_blocks(length, kRows);
  const Documents documents(keys.document_starts, keys.key.shape[0]);
  documents.require_places(keys);
  cpu.for_each(documents.count() * heads * blocks, [&](std::int64_t index, int thread) {
    const Run run = documents.at(index / (heads * blocks));
    const std::int64_t head = index / blocks % heads;
    const std::int64_t row = index % blocks * kRows;
    const std::int64_t rows = std::min(kRows, length - row);
    const std::int64_t place = keys.position.as<std::int64_t>()[run.begin];
    const Matrix<T> sum = sums_of<T>(op.projected, run.document * heads + head).at(row, 0);
    T* copy = cpu.scratch<T>(thread, kTokens * dim);
    const auto sum_up = [&](std::int64_t column, const Tensor& tokens, const Tensor& projection) {
      project_rows<T>(sum.at(0, column), run, tokens, head,
                      projection_of<T>(projection, head, length).at(row, place), rows,
                      keys.key_mask, copy);
    };
    sum_up(0, keys.key, keys.key_projection);
    sum_up(dim, keys.value, keys.value_projection);
  });
}

// The queries of a run against its document's sums; `scores` has room for run.size() * k numbers.
template <class T>
void attend_run(const LinformerAttend& op, const Run& run, std::int64_t head, T* scores) {
  const Tensor& query = op.queries.query;
  const std::int64_t heads = query.shape[1];
  const std::int64_t dim = query.shape[2];
  const std::int64_t length = op.queries.projected.shape[1];
  const Matrix<T> sums = sums_of<T>(op.queries.projected, run.document * heads + head);
  const Matrix<T> out = head_rows<T>(op.out, head).at(run.begin, 0);
  const Matrix<T> weights{scores, length};
  Product<T>{
      .m = run.size(), .n = length, .depth = dim, .transpose_b = true, .alpha = scale_of<T>(dim)}
      .run(weights, head_rows<T>(query, head).at(run.begin, 0), sums);
  T denominators[kTokens];
  for (std::int64_t i = 0; i < run.size(); ++i) {
    const Exponentials<T> exponentials(weights.row(i), length);
    denominators[i] = exponentials.sum;
    op.log_sum.as<T>()[(run.begin + i) * heads + head] =
        exponentials.maximum + std::log(exponentials.sum);
  }
  Product<T>{.m = run.size(), .n = dim, .depth = length}.run(out, weights, sums.at(0, dim));
  for (std::int64_t i = 0; i < run.size(); ++i) {
    T* row = out.row(i);
    const T inverse = T{1} / denominators[i];
#pragma omp simd
    for (std::int64_t d = 0; d < dim; ++d) row[d] *= inverse;
  }
}

template <class T>
void attend(Cpu& cpu, const LinformerAttend& op) {
  const std::int64_t tokens = op.queries.query.shape[0];
  const std::int64_t heads = op.queries.query.shape[1];
  const std::int64_t blocks = count_blocks(tokens, kTokens);
  const Documents documents(op.queries.document_starts, tokens);
  cpu.for_each(heads * blocks, [&](std::int64_t index, int thread) {
    const std::int64_t begin = index % blocks * kTokens;
    T* scores = cpu.scratch<T>(thread, kTokens * op.queries.projected.shape[1]);
    documents.for_each(begin, std::min(tokens, begin + kTokens),
                       [&](const Run& run) { attend_run<T>(op, run, index / blocks, scores); });
  });
}

}  // namespace

void execute(Cpu& cpu, const LinformerProject& op) {
  for_float_type(op.projected.dtype, [&]<class T>() { project<T>(cpu, op); });
}

void execute(Cpu& cpu, const LinformerAttend& op) {
  for_float_type(op.out.dtype, [&]<class T>() { attend<T>(cpu, op); });
}

}  // namespace longscan

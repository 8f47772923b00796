// Exact softmax attention on the CPU, forward: every query's output is made by one thread, tile
// after tile of keys, so results are the same bits on any number of threads.
#include "kernels/softmax_attention.h"

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/softmax_attention_parts.h"

namespace longscan {

namespace {

using namespace softmax;

// A run of queries of one head, and what they have got of the keys so far: out times `sum`, where
// e^maximum times `sum` is the denominator.
template <class T>
class Attending {
 public:
  Attending(Cpu& cpu, int thread, const SoftmaxAttention& op, const Sight& sight, std::int64_t head)
      : op_(op), sight_(sight), head_(head) {
    const std::int64_t dim = op.queries.query.shape[2];
    Carve<T> carve(cpu.scratch<T>(thread, 2 * Rows<T>::size(kRows, dim) + 2 * kRows +
                                              2 * Rows<T>::size(kColumns, dim) +
                                              Columns<T>::size(dim) + kBand * kColumns));
    query_ = Rows<T>::in(carve, kRows, dim);
    out_ = Rows<T>::in(carve, kRows, dim);
    maximum_ = carve.take(kRows);
    sum_ = carve.take(kRows);
    key_ = Rows<T>::in(carve, kColumns, dim);
    value_ = Rows<T>::in(carve, kColumns, dim);
    key_columns_ = Columns<T>::in(carve, dim);
    scores_ = carve.take(kBand * kColumns);
  }

  void run(Span queries, Span keys) {
    const Tokens rows(queries, {}, kRows);
    load(rows);
    while (keys.begin < keys.end) {
      const Tokens columns(keys, op_.keys.key_mask, kColumns);
      key_.load(op_.keys.key, head_, columns);
      value_.load(op_.keys.value, head_, columns);
      key_columns_.transpose(key_, columns.count());
      for_bands(rows.count(),
                [&](std::int64_t begin, std::int64_t end) { take_in(rows, columns, begin, end); });
    }
    store(rows);
  }

 private:
  T& log_sum(std::int64_t query) const {
    return op_.log_sum.as<T>()[query * op_.log_sum.shape[1] + head_];
  }

  void load(const Tokens& rows) {
    query_.load(op_.queries.query, head_, rows, scale_of<T>(query_.dim));
    out_.load(op_.out, head_, rows);
    for (std::int64_t i = 0; i < rows.count(); ++i) {
      maximum_[i] = log_sum(rows[i]);
      sum_[i] = maximum_[i] == exponents::kNone<T> ? T{0} : T{1};
      if (sum_[i] == 0) std::fill_n(out_.row(i), out_.stride, T{0});
    }
  }

  // Rows [begin, end) get what they see of the columns.
  void take_in(const Tokens& rows, const Tokens& columns, std::int64_t begin, std::int64_t end) {
    const std::int64_t seen = columns.count_before(sight_.end_for_query(rows[end - 1]));
    if (seen == 0) return;
    const std::int64_t width = tile::padded<T>(seen);
    tile::multiply<T>({scores_, kColumns}, query_.left(begin), key_columns_.from(0), end - begin,
                      width, query_.dim, false);
    for (std::int64_t i = begin; i < end; ++i) {
      T* weights = scores_ + (i - begin) * kColumns;
      std::fill(weights + columns.count_before(sight_.end_for_query(rows[i])), weights + width,
                exponents::kNone<T>);
      raise(i, Exponentials<T>(weights, width, maximum_[i]));
    }
    tile::multiply<T>(out_.result(begin), {scores_, kColumns, 1}, value_.right(0), end - begin,
                      out_.stride, seen, true);
  }

  // What row i has got becomes relative to the larger maximum.
  void raise(std::int64_t i, const Exponentials<T>& more) {
    const T ratio = exponents::ratio(maximum_[i], more.maximum);
    sum_[i] = ratio * sum_[i] + more.sum;
    maximum_[i] = more.maximum;
    if (ratio == 1) return;
    T* out = out_.row(i);
#pragma omp simd
    for (std::int64_t d = 0; d < out_.stride; ++d) out[d] *= ratio;
  }

  void store(const Tokens& rows) {
    const Matrix<T> all = head_rows<T>(op_.out, head_);
    for (std::int64_t i = 0; i < rows.count(); ++i) {
      const T* in = out_.row(i);
      T* out = all.row(rows[i]);
      const T factor = sum_[i] == 0 ? T{0} : T{1} / sum_[i];
#pragma omp simd
      for (std::int64_t d = 0; d < out_.dim; ++d) out[d] = factor * in[d];
      log_sum(rows[i]) = maximum_[i] + std::log(sum_[i]);
    }
  }

  const SoftmaxAttention& op_;
  const Sight& sight_;
  std::int64_t head_;
  Rows<T> query_;
  Rows<T> out_;
  T* maximum_;
  T* sum_;
  Rows<T> key_;
  Rows<T> value_;
  Columns<T> key_columns_;
  T* scores_;
};

template <class T>
void attend(Cpu& cpu, const SoftmaxAttention& op) {
  const Sight sight(op.queries.block, op.keys.block, op.causal);
  for_each_run(cpu, op.out.shape[1], sight.queries,
               [&](Span run, std::int64_t start, std::int64_t head, int thread) {
                 Attending<T>(cpu, thread, op, sight, head).run(run, sight.keys_of(run, start));
               });
}

template <class T>
void dot(Cpu& cpu, const HeadDot& op) {
  const std::int64_t heads = op.a.shape[1];
  const std::int64_t dim = op.a.shape[2];
  cpu.for_blocks(op.a.shape[0], block_rows(heads * dim),
                 [&](std::int64_t begin, std::int64_t end, int) {
                   for (std::int64_t i = begin * heads; i < end * heads; ++i) {
                     const T* a = head_rows<T>(op.a, i % heads).row(i / heads);
                     const T* b = head_rows<T>(op.b, i % heads).row(i / heads);
                     T sum = 0;
#pragma omp simd reduction(+ : sum)
                     for (std::int64_t d = 0; d < dim; ++d) sum += a[d] * b[d];
                     op.dot.as<T>()[i] = sum;
                   }
                 });
}

}  // namespace

void execute(Cpu& cpu, const SoftmaxAttention& op) {
  for_float_type(op.out.dtype, [&]<class T>() { attend<T>(cpu, op); });
}

void execute(Cpu& cpu, const HeadDot& op) {
  for_float_type(op.dot.dtype, [&]<class T>() { dot<T>(cpu, op); });
}

}  // namespace longscan

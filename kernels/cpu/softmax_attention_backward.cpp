// Exact softmax attention on the CPU, backward: softmaxes are made again from their scores, tile
// after tile, and every gradient is summed up by one thread from beginning to end.
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/softmax.h"
#include "kernels/cpu/softmax_attention_parts.h"
#include "kernels/softmax_attention.h"

namespace longscan {

namespace {

using namespace softmax;

// Of some queries of one head, in scratch memory: what every score's softmax and gradient take.
template <class T>
struct QueryNumbers {
  T* log_sum;
  T* d_out_dot;

  static QueryNumbers in(Carve<T>& carve, std::int64_t count) {
    return {carve.take(count), carve.take(count)};
  }
  void load(const SoftmaxGradient& gradient, std::int64_t head, const Tokens& tokens) const {
    const std::int64_t heads = gradient.log_sum.shape[1];
    for (std::int64_t i = 0; i < tokens.count(); ++i) {
      const std::int64_t index = tokens[i] * heads + head;
      log_sum[i] = exponents::reference(gradient.log_sum.as<T>()[index]);
      d_out_dot[i] = gradient.d_out_dot.as<T>()[index];
    }
  }
  /// Columns up to whole vectors, which are nobody's.
  void pad(std::int64_t count) const {
    for (T* numbers : {log_sum, d_out_dot}) {
      std::fill(numbers + count, numbers + tile::padded<T>(count), T{0});
    }
  }
};

// A row of a band: scores that become the softmax p, and d_out . v that become p (d_out . v -
// d_out_dot).
template <class T>
struct BandRow {
  T* scores;
  T* slopes;

  // Columns that do not see each other weigh nothing, whatever stands there.
  void hide(std::int64_t begin, std::int64_t end) const {
    std::fill(scores + begin, scores + end, exponents::kNone<T>);
    std::fill(slopes + begin, slopes + end, T{0});
  }
};

// A run of queries of one head, their gradients, and a tile of the keys that they see.
template <class T>
class QueryGradient {
 public:
  QueryGradient(Cpu& cpu, int thread, const SoftmaxAttentionBackwardQuery& op, const Sight& sight,
                std::int64_t head)
      : op_(op), sight_(sight), head_(head) {
    const std::int64_t dim = op.d_query.shape[2];
    Carve<T> carve(cpu.scratch<T>(thread, 3 * Rows<T>::size(kRows, dim) + 2 * kRows +
                                              2 * Rows<T>::size(kColumns, dim) +
                                              2 * Columns<T>::size(dim) + 2 * kBand * kColumns));
    for (Rows<T>* rows : {&query_, &d_out_, &d_query_}) *rows = Rows<T>::in(carve, kRows, dim);
    numbers_ = QueryNumbers<T>::in(carve, kRows);
    for (Rows<T>* rows : {&key_, &value_}) *rows = Rows<T>::in(carve, kColumns, dim);
    for (Columns<T>* columns : {&key_columns_, &value_columns_}) {
      *columns = Columns<T>::in(carve, dim);
    }
    band_ = {carve.take(kBand * kColumns), carve.take(kBand * kColumns)};
  }

  void run(Span queries, Span keys) {
    const T scale = scale_of<T>(query_.dim);
    const Tokens rows(queries, {}, kRows);
    query_.load(op_.queries.query, head_, rows, scale);
    d_out_.load(op_.gradient.d_out, head_, rows);
    numbers_.load(op_.gradient, head_, rows);
    d_query_.clear(rows.count());
    while (keys.begin < keys.end) {
      const Tokens columns(keys, op_.keys.key_mask, kColumns);
      key_.load(op_.keys.key, head_, columns);
      value_.load(op_.keys.value, head_, columns);
      key_columns_.transpose(key_, columns.count());
      value_columns_.transpose(value_, columns.count());
      for_bands(rows.count(),
                [&](std::int64_t begin, std::int64_t end) { take_in(rows, columns, begin, end); });
    }
    d_query_.add_to(op_.d_query, head_, rows, scale);
  }

 private:
  void take_in(const Tokens& rows, const Tokens& columns, std::int64_t begin, std::int64_t end) {
    const std::int64_t seen = columns.count_before(sight_.end_for_query(rows[end - 1]));
    if (seen == 0) return;
    const std::int64_t width = tile::padded<T>(seen);
    tile::multiply<T>({band_.scores, kColumns}, query_.left(begin), key_columns_.from(0),
                      end - begin, width, query_.dim, false);
    tile::multiply<T>({band_.slopes, kColumns}, d_out_.left(begin), value_columns_.from(0),
                      end - begin, width, query_.dim, false);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t offset = (i - begin) * kColumns;
      const BandRow<T> row{band_.scores + offset, band_.slopes + offset};
      row.hide(columns.count_before(sight_.end_for_query(rows[i])), width);
      const T log_sum = numbers_.log_sum[i];
      const T d_out_dot = numbers_.d_out_dot[i];
#pragma omp simd
      for (std::int64_t j = 0; j < width; ++j) {
        row.slopes[j] = vector_math::exp(row.scores[j] - log_sum) * (row.slopes[j] - d_out_dot);
      }
    }
    tile::multiply<T>(d_query_.result(begin), {band_.slopes, kColumns, 1}, key_.right(0),
                      end - begin, d_query_.stride, seen, true);
  }

  const SoftmaxAttentionBackwardQuery& op_;
  const Sight& sight_;
  std::int64_t head_;
  Rows<T> query_, d_out_, d_query_;
  QueryNumbers<T> numbers_;
  Rows<T> key_, value_;
  Columns<T> key_columns_, value_columns_;
  BandRow<T> band_;
};

// A run of keys of one head, their gradients, and a tile of the queries that see them.
template <class T>
class KeyGradient {
 public:
  KeyGradient(Cpu& cpu, int thread, const SoftmaxAttentionBackwardKeyValue& op, const Sight& sight,
              std::int64_t head)
      : op_(op), sight_(sight), head_(head) {
    const std::int64_t dim = op.d_key.shape[2];
    Carve<T> carve(cpu.scratch<T>(
        thread, 4 * Rows<T>::size(kRows, dim) + 2 * Rows<T>::size(kColumns, dim) +
                    2 * Columns<T>::size(dim) + 2 * kColumns + 2 * kBand * kColumns));
    for (Rows<T>* rows : {&key_, &value_, &d_key_, &d_value_}) {
      *rows = Rows<T>::in(carve, kRows, dim);
    }
    for (Rows<T>* rows : {&query_, &d_out_}) *rows = Rows<T>::in(carve, kColumns, dim);
    for (Columns<T>* columns : {&query_columns_, &d_out_columns_}) {
      *columns = Columns<T>::in(carve, dim);
    }
    numbers_ = QueryNumbers<T>::in(carve, kColumns);
    band_ = {carve.take(kBand * kColumns), carve.take(kBand * kColumns)};
  }

  void run(Span keys, Span queries) {
    const Tokens rows(keys, op_.keys.key_mask, kRows);
    key_.load(op_.keys.key, head_, rows);
    value_.load(op_.keys.value, head_, rows);
    d_key_.clear(rows.count());
    d_value_.clear(rows.count());
    while (queries.begin < queries.end) {
      const Tokens columns(queries, {}, kColumns);
      // d_key has the scale of what it sums up.
      query_.load(op_.queries.query, head_, columns, scale_of<T>(key_.dim));
      d_out_.load(op_.gradient.d_out, head_, columns);
      query_columns_.transpose(query_, columns.count());
      d_out_columns_.transpose(d_out_, columns.count());
      numbers_.load(op_.gradient, head_, columns);
      numbers_.pad(columns.count());
      for_bands(rows.count(),
                [&](std::int64_t begin, std::int64_t end) { take_in(rows, columns, begin, end); });
    }
    d_key_.add_to(op_.d_key, head_, rows);
    d_value_.add_to(op_.d_value, head_, rows);
  }

 private:
  void take_in(const Tokens& rows, const Tokens& columns, std::int64_t begin, std::int64_t end) {
    const std::int64_t count = columns.count();
    const std::int64_t unseeing = columns.count_before(sight_.begin_for_key(rows[begin]));
    if (unseeing == count) return;
    // The columns from `first` on, which begins a vector, are worked on.
    const std::int64_t first = unseeing / tile::kLanes<T> * tile::kLanes<T>;
    const std::int64_t width = tile::padded<T>(count) - first;
    const std::int64_t band = end - begin;
    const BandRow<T> from{band_.scores + first, band_.slopes + first};
    tile::multiply<T>({from.scores, kColumns}, key_.left(begin), query_columns_.from(first), band,
                      width, key_.dim, false);
    tile::multiply<T>({from.slopes, kColumns}, value_.left(begin), d_out_columns_.from(first), band,
                      width, key_.dim, false);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t offset = (i - begin) * kColumns;
      const BandRow<T> row{from.scores + offset, from.slopes + offset};
      row.hide(0, columns.count_before(sight_.begin_for_key(rows[i])) - first);
      row.hide(count - first, width);
      differentiate(row, first, width);
    }
    tile::multiply<T>(d_value_.result(begin), {from.scores, kColumns, 1}, d_out_.right(first), band,
                      d_value_.stride, count - first, true);
    tile::multiply<T>(d_key_.result(begin), {from.slopes, kColumns, 1}, query_.right(first), band,
                      d_key_.stride, count - first, true);
  }

  void differentiate(const BandRow<T>& row, std::int64_t first, std::int64_t width) const {
    const T* log_sum = numbers_.log_sum + first;
    const T* d_out_dot = numbers_.d_out_dot + first;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) {
      row.scores[j] = vector_math::exp(row.scores[j] - log_sum[j]);
      row.slopes[j] = row.scores[j] * (row.slopes[j] - d_out_dot[j]);
    }
  }

  const SoftmaxAttentionBackwardKeyValue& op_;
  const Sight& sight_;
  std::int64_t head_;
  Rows<T> key_, value_, d_key_, d_value_;
  Rows<T> query_, d_out_;
  Columns<T> query_columns_, d_out_columns_;
  QueryNumbers<T> numbers_;
  BandRow<T> band_;
};

template <class T>
void differentiate_query(Cpu& cpu, const SoftmaxAttentionBackwardQuery& op) {
  const Sight sight(op.queries.block, op.keys.block, op.causal);
  for_each_run(cpu, op.d_query.shape[1], sight.queries,
               [&](Span run, std::int64_t start, std::int64_t head, int thread) {
                 QueryGradient<T>(cpu, thread, op, sight, head).run(run, sight.keys_of(run, start));
               });
}

template <class T>
void differentiate_key_value(Cpu& cpu, const SoftmaxAttentionBackwardKeyValue& op) {
  const Sight sight(op.queries.block, op.keys.block, op.causal);
  for_each_run(
      cpu, op.d_key.shape[1], sight.keys,
      [&](Span run, std::int64_t start, std::int64_t head, int thread) {
        KeyGradient<T>(cpu, thread, op, sight, head).run(run, sight.queries_of(run, start));
      });
}

}  // namespace

void execute(Cpu& cpu, const SoftmaxAttentionBackwardQuery& op) {
  for_float_type(op.d_query.dtype, [&]<class T>() { differentiate_query<T>(cpu, op); });
}

void execute(Cpu& cpu, const SoftmaxAttentionBackwardKeyValue& op) {
  for_float_type(op.d_key.dtype, [&]<class T>() { differentiate_key_value<T>(cpu, op); });
}

}  // namespace longscan

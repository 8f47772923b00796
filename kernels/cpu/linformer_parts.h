// What the CPU kernels of Linformer share: the documents of a shard, and the matrices of one
// document and head as the BLAS library takes them.
#pragma once

#include <algorithm>

#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matrix.h"
#include "kernels/error.h"
#include "kernels/linformer.h"

namespace longscan::linformer {

/// Tokens that are worked on at once: those of a block attend in one matrix product.
constexpr std::int64_t kTokens = 128;
/// Rows of a projection in a piece of work, and columns. No functions of the number of threads, so
/// that results are none either.
constexpr std::int64_t kRows = 128;
constexpr std::int64_t kColumns = 128;

/// E or F of one head, [k, n].
template <class T>
Matrix<T> projection_of(const Tensor& projection, std::int64_t head, std::int64_t length) {
  const bool shared = projection.shape[0] == length;
  const std::int64_t columns = projection.shape[1];
  return {projection.as<T>() + (shared ? 0 : head * length * columns), columns};
}

/// A document's sums for one head, [k, 2 * dim]: the projected values begin at column dim.
template <class T>
Matrix<T> sums_of(const Tensor& sums, std::int64_t index) {
  return {sums.as<T>() + index * sums.stride[0], sums.stride[1]};
}

/// Tokens [begin, end) of one document.
struct Run {
  std::int64_t document;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t size() const { return end - begin; }
};

class Documents {
 public:
  Documents(const Tensor& document_starts, std::int64_t tokens)
      : first_(document_starts.as<std::int64_t>()),
        last_(first_ + document_starts.size()),
        tokens_(tokens),
        count_(count_documents(tokens, document_starts)),
        ahead_(count_ - document_starts.size()) {}

  std::int64_t count() const { return count_; }

  /// All tokens of a document.
  Run at(std::int64_t document) const { return {document, begin_of(document), end_of(document)}; }

  /// Throws data where one is longer than the projections.
  void require_places(const LinformerKeys& keys) const {
    const std::int64_t places = keys.key_projection.shape[1];
    for (std::int64_t document = 0; document < count_; ++document) {
      const std::int64_t last = keys.position.as<std::int64_t>()[end_of(document) - 1];
      if (last < places) continue;
      throw Error(ErrorKind::data,
                  {.what = fmt::format("a document has {} tokens or more", last + 1),
                   .why = fmt::format("linformer's projections have {} columns", places),
                   .hint = "cut the documents, or train a model with a longer window"});
    }
  }

  /// Calls `body` for the runs that tokens [begin, end) consist of.
  template <class Body>
  void for_each(std::int64_t begin, std::int64_t end, const Body& body) const {
    std::int64_t document = std::upper_bound(first_, last_, begin) - first_ + ahead_ - 1;
    for (; begin < end; ++document) {
      const Run run{document, begin, std::min(end, end_of(document))};
      body(run);
      begin = run.end;
    }
  }

 private:
  std::int64_t begin_of(std::int64_t document) const {
    return document < ahead_ ? 0 : first_[document - ahead_];
  }
  std::int64_t end_of(std::int64_t document) const {
    return document + 1 < count_ ? begin_of(document + 1) : tokens_;
  }

  const std::int64_t* first_;
  const std::int64_t* last_;
  std::int64_t tokens_;
  std::int64_t count_;
  std::int64_t ahead_;  // 1 where the first document began before the shard
};

/// Tokens [begin, end) of one head's keys or values. Those that the mask excludes are zeros, in a
/// copy: whatever stands there meets no product. `copy` has room for (end - begin) * dim numbers.
template <class T>
Matrix<T> unmasked(const Tensor& rows, std::int64_t head, std::int64_t begin, std::int64_t end,
                   const Tensor& mask, T* copy) {
  const Matrix<T> all = head_rows<T>(rows, head).at(begin, 0);
  if (!mask.present()) return all;
  const std::int64_t dim = rows.shape[2];
  const std::uint8_t* kept = mask.as<std::uint8_t>() + begin;
  for (std::int64_t i = 0; i < end - begin; ++i) {
    T* row = copy + i * dim;
    kept[i] != 0 ? std::copy_n(all.row(i), dim, row) : std::fill_n(row, dim, T{0});
  }
  return {copy, dim};
}

}  // namespace longscan::linformer

// Random operands that tests of an operation share, whatever device it runs on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/random.h"
#include "tests/support/reference.h"

namespace longscan::test {

/// [tokens] entries of a table.
inline OwnedTensor random_index(DType dtype, std::int64_t tokens, std::int64_t entries) {
  OwnedTensor index(dtype, {tokens});
  for (std::int64_t i = 0; i < tokens; ++i) {
    const std::uint32_t word = random_words({.seed = 9}, static_cast<std::uint64_t>(i))[0];
    index.set(i, static_cast<double>(word % entries));
  }
  return index;
}

/// [count] i64: first, first + 1, ...
inline OwnedTensor positions_from(std::int64_t first, std::int64_t count) {
  OwnedTensor position(DType::i64, {count});
  for (std::int64_t i = 0; i < count; ++i) position.set(i, static_cast<double>(first + i));
  return position;
}

/// Targets from -1 to vocabulary - 1; every third one is the largest logit's, so that some are
/// right.
inline OwnedTensor targets_for(const OwnedTensor& logits) {
  const std::int64_t tokens = logits.view().shape[0];
  const std::int64_t vocabulary = logits.view().shape[1];
  OwnedTensor targets(DType::i32, {tokens});
  const std::vector<double> values = logits.values();
  for (std::int64_t token = 0; token < tokens; ++token) {
    const auto row = values.begin() + token * vocabulary;
    const auto word = random_words({.seed = 3}, static_cast<std::uint64_t>(token))[0];
    const std::int64_t random = static_cast<std::int64_t>(word % (vocabulary + 1)) - 1;
    const std::int64_t best = std::max_element(row, row + vocabulary) - row;
    targets.set(token, static_cast<double>(token % 3 == 0 ? best : random));
  }
  return targets;
}

}  // namespace longscan::test

// What a reader met in its input that was not a plain letter of a plain record: nothing is changed,
// kept against the rules or left out without being counted here.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace longscan {

/// What a reader does with a letter that the vocabulary does not have.
enum class Unknown {
  error,  ///< throws data, with file, line and column
  map     ///< counts it; FASTA reads it as X, text keeps its byte
};

struct ReadReport {
  std::int64_t files = 0;
  std::int64_t records = 0;      ///< records with at least one letter
  std::int64_t letters = 0;      ///< letters of all records, as they go on
  std::int64_t lower_case = 0;   ///< letters that were turned into upper case
  std::int64_t mapped = 0;       ///< unknown letters read as X, or places that are not UTF-8
  std::int64_t stops = 0;        ///< `*` at the end of a record, dropped
  std::int64_t blanks = 0;       ///< spaces and tabs between letters, dropped
  std::int64_t empty = 0;        ///< records without a letter, dropped
  std::int64_t duplicates = 0;   ///< records whose identifier was there before, kept
  std::int64_t other_files = 0;  ///< files in a folder of texts that are no texts, not read

  /// Sentences about single places, each beginning with FILE:LINE; the first of each sort only.
  std::vector<std::string> notices;

  static constexpr std::int64_t kMostNotices = 5;
  /// Counts one more of `counter`'s sort; while they are few, the notice is kept.
  template <class MakeNotice>
  void note(std::int64_t ReadReport::*counter, const MakeNotice& make_notice) {
    if (++(this->*counter) <= kMostNotices) notices.push_back(make_notice());
  }
};

}  // namespace longscan

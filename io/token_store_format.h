// The names and numbers that the writer and the reader of token stores share. Internal.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>

#include "io/read_report.h"
#include "io/sha256.h"
#include "io/vocabulary.h"

namespace longscan::store_format {

inline constexpr const char* kFormat = "longscan token store";
inline constexpr std::int64_t kVersion = 1;

/// The counts of a report under the names of their attributes.
inline constexpr std::array<std::pair<const char*, std::int64_t ReadReport::*>, 10> kCounts = {{
    {"count_files", &ReadReport::files},
    {"count_records", &ReadReport::records},
    {"count_letters", &ReadReport::letters},
    {"count_lower_case", &ReadReport::lower_case},
    {"count_mapped", &ReadReport::mapped},
    {"count_stops", &ReadReport::stops},
    {"count_blanks", &ReadReport::blanks},
    {"count_empty", &ReadReport::empty},
    {"count_duplicates", &ReadReport::duplicates},
    {"count_other_files", &ReadReport::other_files},
}};

/// The hash of the whole corpus from those of its splits.
inline std::string content_hash_of(const Vocabulary& vocabulary,
                                   const std::array<std::string, 3>& split_hashes) {
  Sha256 hash;
  hash.update(vocabulary.name());
  for (const std::string& split_hash : split_hashes) hash.update(split_hash);
  return hash.hex_digest();
}

}  // namespace longscan::store_format

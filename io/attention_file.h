// What `longscan inspect` draws, as numbers: attention matrices of a record, and similarities of
// letters.
//
// clang-format off
// NAME.h5, attention    attributes format, format_version, checkpoint, step, record, description,
//                       sequence
//   /tokens                 [tokens] i32, what the model was given
//   /labels                 their texts, a line each
//   /heads                  [heads] i64, those that are in the file
//   /layer_<l>              [heads, tokens, tokens] f32 or f64: token [row] attends to token
//                           [column]; attributes layer, kind
//
// NAME.h5, similarity   attributes format, format_version, checkpoint, step, records
//   /letters                the letters of rows and columns
//   /similarity             [letters, letters] f64, NaN for pairs that do not occur
//   /symmetrized            the same, each pair both ways
//   /likeness               [letters, letters] f64, how much alike letters attend; NaN where unknown
//   /blosum62               [letters, letters] f64
// clang-format on
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace longscan {

/// Whose attention it is.
struct AttendingRecord {
  std::string checkpoint;
  std::int64_t step = 0;
  std::string identifier;
  std::string description;
  std::string sequence;
  std::vector<std::int32_t> tokens;
  std::vector<std::string> labels;  ///< of the tokens; without line feeds
};

/// The file appears, or replaces an older one, in `finish`.
class AttentionFile {
 public:
  /// heads: those that matrices will be of. Throws io, as everything here.
  AttentionFile(const std::filesystem::path& path, const AttendingRecord& record,
                std::span<const std::int64_t> heads);
  ~AttentionFile();
  AttentionFile(const AttentionFile&) = delete;
  AttentionFile& operator=(const AttentionFile&) = delete;

  /// matrices: [heads, tokens, tokens] f32 or f64, dense. kind: the name of the layer's attention.
  void write_layer(std::int64_t layer, const std::string& kind, const Tensor& matrices);
  void finish();

 private:
  struct Contents;
  std::unique_ptr<Contents> contents_;
};

struct SimilarityContents {
  std::string checkpoint;
  std::int64_t step = 0;
  std::int64_t records = 0;
  std::string letters;
  // Each [letters, letters].
  std::span<const double> similarity;
  std::span<const double> symmetrized;
  std::span<const double> likeness;
  std::span<const double> blosum62;
};

/// Throws io.
void write_similarity(const std::filesystem::path& path, const SimilarityContents& contents);

}  // namespace longscan

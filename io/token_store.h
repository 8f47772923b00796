// A corpus as tokens in one HDF5 file, made once by `pack` and read by every rank.
//
// Layout, format 1. Attributes of the file: format "longscan token store", format_version,
// vocabulary, content_hash, and the counts of ReadReport. Datasets: letters u8[letters],
// notices (text). A group for each of train, validation, test:
//   tokens          u8 or u16 [tokens]   the records one after the other, each followed by `end`
//   record_offsets  i64[records + 1]     where each record begins; the last is the number of tokens
//   histogram       i64[vocabulary]      how often each token occurs
//   identifiers     u8[bytes]            UTF-8 text, a line a record
//   titles          u8[bytes]            likewise
//   content_hash    (attribute)          SHA-256 over tokens (as u16) and record_offsets
//
// HDF5 is told once for the whole process to do no work at its exit; see io/checkpoint.h.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/read_report.h"
#include "io/split.h"
#include "io/vocabulary.h"

namespace longscan {

/// Reads a token store. May be used by several threads, and many processes may open one file.
/// Everything it throws is data and names the file, unless said otherwise.
class TokenStore {
 public:
  /// Throws missing when there is no such file, data when it is no token store, has another format
  /// version, was cut off or contradicts itself.
  explicit TokenStore(const std::filesystem::path& path);
  ~TokenStore();
  TokenStore(TokenStore&&) noexcept;
  TokenStore& operator=(TokenStore&&) noexcept;

  const std::filesystem::path& path() const { return path_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  /// 64 hexadecimal digits that stand for vocabulary, tokens and records of all splits.
  const std::string& content_hash() const { return content_hash_; }
  /// What the reader of the corpus met.
  ReadReport report() const;

  std::int64_t tokens(Split split) const;
  std::int64_t records(Split split) const;
  /// [vocabulary size]: how often each token occurs.
  std::vector<std::int64_t> histogram(Split split) const;
  std::vector<std::string> identifiers(Split split) const;  ///< [records]
  std::vector<std::string> titles(Split split) const;       ///< [records]; descriptions of FASTA

  /// Tokens [begin, end) of a split, 0 <= begin <= end <= tokens(split). Throws internal for
  /// another range.
  std::vector<std::int32_t> read(Split split, std::int64_t begin, std::int64_t end) const;
  /// Where records [begin, end] begin: end - begin + 1 offsets, 0 <= begin <= end <=
  /// records(split).
  std::vector<std::int64_t> record_offsets(Split split, std::int64_t begin, std::int64_t end) const;
  /// The record that token `token` belongs to, in a logarithmic number of reads.
  std::int64_t record_of(Split split, std::int64_t token) const;

 private:
  struct Contents;

  void check_format();
  void check_contents() const;

  std::filesystem::path path_;
  Vocabulary vocabulary_ = Vocabulary::bytes();
  std::string content_hash_;
  std::unique_ptr<Contents> contents_;
};

/// Writes a token store in memory that does not depend on the size of the corpus. The file appears
/// under its name, or replaces another one, in `finish`; without that nothing is left behind.
class TokenStoreWriter {
 public:
  /// Throws io when the file cannot be made.
  TokenStoreWriter(const std::filesystem::path& path, const Vocabulary& vocabulary);
  ~TokenStoreWriter();

  /// Letters of the record under way in `split`. Throws internal when a letter has no token.
  void append(Split split, std::string_view letters);
  /// Ends the record under way with the end token. Line feeds in the texts become blanks.
  void end_record(Split split, std::string identifier, std::string title);

  std::int64_t tokens(Split split) const;
  std::int64_t records(Split split) const;

  /// Brings everything to the disk and gives the file its name; returns the content hash. To be
  /// called once and last.
  std::string finish(const ReadReport& report);

 private:
  struct Contents;

  std::unique_ptr<Contents> contents_;
};

/// [vocabulary size]: what a model that knows no context loses at each token, in nats: −log of its
/// share of the histogram of `train`, with one added to each count.
std::vector<double> unigram_losses(const TokenStore& store);

/// Perplexity of such a model on a split. NaN for an empty one.
double unigram_perplexity(const TokenStore& store, Split split);

/// A split in numbers.
struct SplitSummary {
  std::int64_t records = 0;
  std::int64_t tokens = 0;        ///< end tokens included
  double unigram_perplexity = 0;  ///< NaN for an empty split
};

/// In the order of kSplits.
std::array<SplitSummary, 3> summarize(const TokenStore& store);

}  // namespace longscan

// Reads protein sequences in FASTA format, however they are wrapped, in memory that depends neither
// on the length of a line nor on that of a record.
//
//   FastaReader reader({"proteins.fasta.gz"}, Unknown::error);
//   while (reader.next_record()) {
//     for (std::string_view letters = reader.read(); !letters.empty(); letters = reader.read()) ...
//   }
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "io/byte_source.h"
#include "io/read_report.h"
#include "io/vocabulary.h"

namespace longscan {

/// What stands behind `>`: the identifier up to the first blank, the rest without the blanks before
/// it. Both may be empty.
struct FastaHeader {
  std::string identifier;
  std::string description;
  std::string where;  ///< FILE:LINE
};

/// Lines may end in LF or CRLF and may be empty. Lower case is read as upper case, blanks and one
/// `*` at the end of a record are dropped; the report counts all of these, and duplicate
/// identifiers. Any other letter without a token in Vocabulary::protein() is unknown, gaps (`-`,
/// `.`) and a `*` inside a record included.
class FastaReader {
 public:
  /// Files are read one after the other; "-" is standard input. The first is opened at once: throws
  /// what ByteSource throws.
  FastaReader(std::vector<std::string> paths, Unknown unknown);

  /// Goes to the next record, past what is unread of this one; false at the end of the last file.
  /// Throws data where letters come before a file's first header, or a header is longer than 1 MiB.
  bool next_record();
  const FastaHeader& header() const { return header_; }

  /// The next letters of this record, in upper case and at most 64 KiB, valid until the next call;
  /// none at its end. Throws data at an unknown letter, unless these are mapped to X.
  std::string_view read();

  /// Goes past the rest of this record without a look at its letters: neither are they counted nor
  /// can they be wrong.
  void pass_over();

  /// What was met so far; complete when next_record has returned false.
  const ReadReport& report() const { return report_; }

 private:
  enum class Kind : std::uint8_t { letter, lower_case, line_feed, carriage_return, blank, other };
  static constexpr int kEnd = -1;
  /// A place in the input, to be told if it turns out to be at fault.
  struct Place {
    std::int64_t line = 1;
    std::int64_t column = 1;
  };

  bool open_next_file();
  int peek();        ///< the next byte, or kEnd at the end of the file
  void skip_byte();  ///< past the byte that peek showed, within its line
  void skip_line_feed();
  void read_header();
  void read_letters();
  void take_other(char byte);
  void settle_stop();  ///< something follows a `*`: it was not at the end
  void end_record();
  void take_unknown(char letter, Place place);
  std::string where(Place place) const;

  std::vector<std::string> paths_;
  std::size_t next_path_ = 0;
  Unknown unknown_;
  std::array<Kind, 256> kind_of_{};
  std::optional<ByteSource> source_;
  std::span<const char> unread_;
  Place place_;

  FastaHeader header_;
  bool inside_record_ = false;
  std::int64_t letters_before_ = 0;  ///< letters of the records before this one
  std::optional<Place> stop_;        ///< a `*` that is only right if the record ends here
  std::string letters_;
  /// Hashes instead of the identifiers: eight bytes a record, whatever their length. That two
  /// identifiers of a corpus of 10^8 share one has a chance below 1 in 1000 and costs one wrong
  /// notice.
  std::unordered_set<std::uint64_t> seen_;
  ReadReport report_;
};

}  // namespace longscan

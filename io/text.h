// Reads texts as bytes: a single file, or a folder in the layout of PG-19.
//
//   for (const TextFile& file : list_texts("pg19", report)) {
//     TextReader reader(file.path, Unknown::error, report);
//     for (auto bytes = reader.read(); !bytes.empty(); bytes = reader.read()) ...
//   }
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/byte_source.h"
#include "io/read_report.h"
#include "io/split.h"

namespace longscan {

struct TextFile {
  Split split = Split::train;
  std::filesystem::path path;
  std::string identifier;  ///< the file's name without .txt
  std::string title;       ///< from metadata.csv; else empty
};

/// The texts of a folder FOLDER/{train,validation,test}/*.txt, by split and then by name. A line
/// `identifier,title,year,url` of FOLDER/metadata.csv, where there is one, gives a text its title.
/// `validation` and `test` may be missing or empty; other files are counted and not read. Throws
/// missing when there is no text in `train`, data when metadata.csv is malformed.
std::vector<TextFile> list_texts(const std::filesystem::path& folder, ReadReport& report);

/// One text, byte for byte. The bytes are checked to be UTF-8; what is not (overlong forms,
/// surrogates and cut characters included) is an error or, with Unknown::map, counted and kept.
class TextReader {
 public:
  /// Throws what ByteSource throws. `report` must outlive the reader.
  TextReader(const std::filesystem::path& path, Unknown unknown, ReadReport& report);

  /// The next bytes, valid until the next call; none at the end. Throws data with line, column
  /// (both in bytes) and the offset in the file where bytes are no UTF-8.
  std::span<const char> read();

 private:
  /// A place in the text; line and column count from 1.
  struct Place {
    std::int64_t offset = 0;
    std::int64_t line = 1;
    std::int64_t column = 1;
  };

  void check(char letter);
  void begin_character(unsigned char byte);
  void refuse_character();

  ByteSource source_;
  Unknown unknown_;
  ReadReport& report_;

  Place place_;                 ///< of the next byte
  Place character_;             ///< of the first byte of the character under way
  int missing_ = 0;             ///< bytes that it still needs
  unsigned char least_ = 0x80;  ///< what its next byte may be
  unsigned char most_ = 0xbf;
};

}  // namespace longscan

// One pass over the bytes; a table says what each of them is.
#include "io/fasta.h"

#include <algorithm>
#include <functional>

#include "kernels/error.h"

namespace longscan {
namespace {

constexpr std::size_t kPieceBytes = 64 * 1024;
constexpr std::size_t kMostHeaderBytes = 1024 * 1024;

/// The byte as a message shows it: 'x', or its number where it cannot be shown.
std::string shown(char byte) {
  const auto value = static_cast<unsigned char>(byte);
  if (value >= 0x21 && value <= 0x7e) return fmt::format("letter '{}'", byte);
  return fmt::format("byte 0x{:02X}", value);
}

/// Independent of the locale; `letter` is one of a to z.
char upper_case(char letter) {
  return static_cast<char>(letter - 'a' + 'A');
}

std::string explain(char letter) {
  if (letter == '-' || letter == '.') return "gaps of an alignment are no part of a sequence";
  if (letter == '*') return "a stop may only be the last letter of a record";
  return "the letters of proteins are A to Z";
}

}  // namespace

FastaReader::FastaReader(std::vector<std::string> paths, Unknown unknown)
    : paths_(std::move(paths)), unknown_(unknown) {
  const Vocabulary vocabulary = Vocabulary::protein();
  for (int byte = 0; byte < 256; ++byte) {
    const char letter = static_cast<char>(byte);
    if (vocabulary.encode(letter) >= 0) {
      kind_of_[byte] = Kind::letter;
    } else if (letter >= 'a' && letter <= 'z' && vocabulary.encode(upper_case(letter)) >= 0) {
      kind_of_[byte] = Kind::lower_case;
    } else if (letter == '\n') {
      kind_of_[byte] = Kind::line_feed;
    } else if (letter == '\r') {
      kind_of_[byte] = Kind::carriage_return;
    } else {
      kind_of_[byte] = letter == ' ' || letter == '\t' ? Kind::blank : Kind::other;
    }
  }
  open_next_file();
}

bool FastaReader::open_next_file() {
  if (next_path_ == paths_.size()) return false;
  source_.emplace(paths_[next_path_++]);
  unread_ = {};
  place_ = {};
  ++report_.files;
  return true;
}

int FastaReader::peek() {
  if (unread_.empty()) unread_ = source_->read();
  return unread_.empty() ? kEnd : static_cast<unsigned char>(unread_.front());
}

void FastaReader::skip_byte() {
  unread_ = unread_.subspan(1);
  ++place_.column;
}

void FastaReader::skip_line_feed() {
  unread_ = unread_.subspan(1);
  place_ = {.line = place_.line + 1, .column = 1};
}

std::string FastaReader::where(Place place) const {
  return fmt::format("{}:{}:{}", source_->name(), place.line, place.column);
}

bool FastaReader::next_record() {
  while (!read().empty()) {
  }
  for (;;) {
    const int byte = peek();
    if (byte == kEnd) {
      if (!open_next_file()) return false;
    } else if (byte == '\n') {
      skip_line_feed();
    } else if (byte == '\r' || byte == ' ' || byte == '\t') {
      skip_byte();
    } else if (byte == '>' && place_.column == 1) {
      read_header();
      return true;
    } else {
      throw Error(
          ErrorKind::data,
          {.what = fmt::format("{} stands before the first header", shown(static_cast<char>(byte))),
           .why = "a FASTA file begins with '>' and an identifier",
           .hint = "see whether this is a FASTA file and whether its beginning is missing",
           .where = where(place_)});
    }
  }
}

void FastaReader::read_header() {
  const Place place = place_;
  std::string line;
  skip_byte();  // '>'
  for (int byte = peek(); byte != kEnd && byte != '\n'; byte = peek()) {
    if (line.size() == kMostHeaderBytes) {
      throw Error(ErrorKind::data, {.what = "a header is longer than 1 MiB",
                                    .why = "headers are held in memory",
                                    .where = where(place)});
    }
    line.push_back(static_cast<char>(byte));
    skip_byte();
  }
  if (peek() == '\n') skip_line_feed();
  line.resize(line.find_last_not_of(" \t\r") + 1);

  const std::size_t blank = std::min(line.find_first_of(" \t"), line.size());
  const std::size_t rest = std::min(line.find_first_not_of(" \t", blank), line.size());
  header_ = {.identifier = line.substr(0, blank),
             .description = line.substr(rest),
             .where = fmt::format("{}:{}", source_->name(), place.line)};
  inside_record_ = true;
  letters_before_ = report_.letters;
  stop_.reset();
  if (!seen_.insert(std::hash<std::string>{}(header_.identifier)).second) {
    report_.note(&ReadReport::duplicates, [&] {
      return fmt::format("{}: identifier '{}' was there before; both records are kept",
                         header_.where, header_.identifier);
    });
  }
}

std::string_view FastaReader::read() {
  letters_.clear();
  while (inside_record_ && letters_.size() < kPieceBytes) {
    const int byte = peek();
    if (byte == kEnd || (byte == '>' && place_.column == 1)) {
      end_record();
      break;
    }
    switch (kind_of_[byte]) {
      case Kind::letter:
      case Kind::lower_case:
        read_letters();
        break;
      case Kind::line_feed:
        skip_line_feed();
        break;
      case Kind::blank:
        ++report_.blanks;
        skip_byte();
        break;
      case Kind::carriage_return:
      case Kind::other:
        take_other(static_cast<char>(byte));
        break;
    }
  }
  return letters_;
}

void FastaReader::pass_over() {
  while (inside_record_) {
    const int byte = peek();
    if (byte == kEnd || (byte == '>' && place_.column == 1)) {
      inside_record_ = false;
    } else if (byte == '\n') {
      skip_line_feed();
    } else {
      skip_byte();
    }
  }
}

void FastaReader::read_letters() {
  settle_stop();
  const std::size_t most = std::min(unread_.size(), kPieceBytes - letters_.size());
  std::size_t count = 0;
  for (; count < most; ++count) {
    const char letter = unread_[count];
    const Kind kind = kind_of_[static_cast<unsigned char>(letter)];
    if (kind == Kind::lower_case) {
      letters_.push_back(upper_case(letter));
      ++report_.lower_case;
    } else if (kind == Kind::letter) {
      letters_.push_back(letter);
    } else {
      break;
    }
  }
  unread_ = unread_.subspan(count);
  place_.column += static_cast<std::int64_t>(count);
  report_.letters += static_cast<std::int64_t>(count);
}

void FastaReader::take_other(char byte) {
  const Place place = place_;
  skip_byte();
  if (byte == '\r' && (peek() == '\n' || peek() == kEnd)) return;
  settle_stop();
  if (byte == '*') {
    stop_ = place;
  } else {
    take_unknown(byte, place);
  }
}

void FastaReader::settle_stop() {
  if (!stop_.has_value()) return;
  take_unknown('*', *stop_);
  stop_.reset();
}

void FastaReader::take_unknown(char letter, Place place) {
  if (unknown_ == Unknown::error) {
    throw Error(ErrorKind::data, {.what = fmt::format("{} is no amino acid", shown(letter)),
                                  .why = explain(letter),
                                  .hint = "--unknown=map reads such letters as X and counts them",
                                  .where = where(place)});
  }
  report_.note(&ReadReport::mapped,
               [&] { return fmt::format("{}: {} is read as X", where(place), shown(letter)); });
  letters_.push_back('X');
  ++report_.letters;
}

void FastaReader::end_record() {
  inside_record_ = false;
  if (stop_.has_value()) ++report_.stops;
  if (report_.letters > letters_before_) {
    ++report_.records;
    return;
  }
  report_.note(&ReadReport::empty, [&] {
    return fmt::format("{}: record '{}' has no letters and is left out", header_.where,
                       header_.identifier);
  });
}

}  // namespace longscan

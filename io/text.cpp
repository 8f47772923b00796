// Folders of texts, their metadata, and the check that bytes are UTF-8.
#include "io/text.h"

#include <algorithm>
#include <system_error>
#include <unordered_map>
#include <unordered_set>

#include "kernels/error.h"

namespace longscan {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetadata = "metadata.csv";

std::string whole_file(const fs::path& path) {
  ByteSource source(path.string());
  std::string text;
  for (auto piece = source.read(); !piece.empty(); piece = source.read()) {
    text.append(piece.data(), piece.size());
  }
  return text;
}

/// Comma-separated values by RFC 4180: a field in double quotes may hold commas, line feeds and
/// doubled quotes.
class CsvReader {
 public:
  explicit CsvReader(const fs::path& path) : name_(path.string()), text_(whole_file(path)) {}

  /// The fields of the next line that is not empty; none at the end.
  std::vector<std::string> next_line() {
    std::vector<std::string> fields;
    while (fields.empty() && at_ < text_.size()) {
      fields = read_line();
      if (fields.size() == 1 && fields[0].empty()) fields.clear();
    }
    return fields;
  }

  [[noreturn]] void refuse(const std::string& what, const std::string& why, std::size_t at) const {
    const auto begin = text_.begin();
    const auto line = 1 + std::count(begin, begin + static_cast<std::ptrdiff_t>(at), '\n');
    const std::size_t feed = at == 0 ? std::string::npos : text_.rfind('\n', at - 1);
    const std::size_t column = feed == std::string::npos ? at + 1 : at - feed;
    throw Error(ErrorKind::data, {.what = what,
                                  .why = why,
                                  .hint = "a line is identifier,title,year,url",
                                  .where = fmt::format("{}:{}:{}", name_, line, column)});
  }

  std::size_t line_begin() const { return line_begin_; }

 private:
  std::vector<std::string> read_line() {
    line_begin_ = at_;
    std::vector<std::string> fields = {read_field()};
    while (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
      fields.push_back(read_field());
    }
    if (at_ < text_.size()) ++at_;  // the line feed
    return fields;
  }

  std::string read_field() {
    if (at_ < text_.size() && text_[at_] == '"') return read_quoted();
    const std::size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    std::string field = text_.substr(at_, end - at_);
    if (!field.empty() && field.back() == '\r') field.pop_back();
    at_ = end;
    return field;
  }

  std::string read_quoted() {
    const std::size_t opening = at_++;
    std::string field;
    for (;; ++at_) {
      if (at_ == text_.size()) refuse("a quoted field has no end", "its '\"' is missing", opening);
      if (text_[at_] == '"') {
        ++at_;
        if (at_ == text_.size() || text_[at_] != '"') break;
      }
      field.push_back(text_[at_]);
    }
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n') {
      refuse("something follows a quoted field", "a comma or the line's end should", at_);
    }
    return field;
  }

  std::string name_;
  std::string text_;
  std::size_t at_ = 0;
  std::size_t line_begin_ = 0;
};

std::unordered_map<std::string, std::string> read_titles(const fs::path& path) {
  CsvReader reader(path);
  std::unordered_map<std::string, std::string> titles;
  for (auto fields = reader.next_line(); !fields.empty(); fields = reader.next_line()) {
    if (fields.size() < 2) {
      reader.refuse("the line has no title", "it has one field only", reader.line_begin());
    }
    std::replace(fields[1].begin(), fields[1].end(), '\n', ' ');
    titles.insert_or_assign(fields[0], fields[1]);
  }
  return titles;
}

/// The entries of a folder, by name; none when there is no such folder.
std::vector<fs::directory_entry> list_folder(const fs::path& folder) {
  std::vector<fs::directory_entry> entries;
  try {
    if (fs::is_directory(folder)) entries.assign(fs::directory_iterator(folder), {});
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorKind::io, {.what = "the folder cannot be read",
                                .why = error.code().message(),
                                .where = folder.string()});
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// The texts of one split's folder, by name.
std::vector<TextFile> list_split(const fs::path& folder, Split split, ReadReport& report) {
  std::vector<TextFile> files;
  for (const fs::directory_entry& entry : list_folder(folder)) {
    const fs::path& path = entry.path();
    if (entry.is_regular_file() && path.extension() == ".txt") {
      files.push_back(
          {.split = split, .path = path, .identifier = path.stem().string(), .title = {}});
    } else {
      report.note(&ReadReport::other_files,
                  [&] { return fmt::format("{}: no .txt file, not read", path.string()); });
    }
  }
  return files;
}

}  // namespace

std::vector<TextFile> list_texts(const fs::path& folder, ReadReport& report) {
  std::unordered_map<std::string, std::string> titles;
  if (fs::exists(folder / kMetadata)) titles = read_titles(folder / kMetadata);
  std::unordered_set<std::string> seen;
  std::vector<TextFile> files;
  for (const Split split : kSplits) {
    std::vector<TextFile> found = list_split(folder / name_of(split), split, report);
    if (split == Split::train && found.empty()) {
      throw Error(ErrorKind::missing,
                  {.what = "there is no text in train/",
                   .why = "a folder of texts holds train/*.txt and, where there are any, "
                          "validation/*.txt, test/*.txt and metadata.csv",
                   .where = folder.string()});
    }
    for (TextFile& file : found) {
      const auto title = titles.find(file.identifier);
      if (title != titles.end()) file.title = title->second;
      if (!seen.insert(file.identifier).second) {
        report.note(&ReadReport::duplicates, [&] {
          return fmt::format("{}: identifier '{}' was there before; both texts are kept",
                             file.path.string(), file.identifier);
        });
      }
      files.push_back(std::move(file));
    }
  }
  return files;
}

TextReader::TextReader(const fs::path& path, Unknown unknown, ReadReport& report)
    : source_(path.string()), unknown_(unknown), report_(report) {
  ++report_.files;
}

std::span<const char> TextReader::read() {
  const std::span<const char> piece = source_.read();
  if (place_.offset == 0 && !piece.empty()) ++report_.records;
  for (const char letter : piece) check(letter);
  if (piece.empty() && missing_ > 0) refuse_character();
  report_.letters += static_cast<std::int64_t>(piece.size());
  return piece;
}

void TextReader::check(char letter) {
  const auto byte = static_cast<unsigned char>(letter);
  if (missing_ > 0 && byte >= least_ && byte <= most_) {
    --missing_;
    least_ = 0x80;
    most_ = 0xbf;
  } else {
    if (missing_ > 0) refuse_character();  // cut short by this byte, which begins another one
    if (byte >= 0x80) begin_character(byte);
  }
  ++place_.offset;
  ++place_.column;
  if (byte == '\n') place_ = {.offset = place_.offset, .line = place_.line + 1, .column = 1};
}

// Table 3-7 of the Unicode standard: only the second byte's range depends on the first byte.
void TextReader::begin_character(unsigned char byte) {
  character_ = place_;
  least_ = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
  most_ = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
  missing_ = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
  if (byte < 0xc2 || byte > 0xf4) refuse_character();
}

void TextReader::refuse_character() {
  missing_ = 0;
  const std::string where =
      fmt::format("{}:{}:{}", source_.name(), character_.line, character_.column);
  if (unknown_ == Unknown::error) {
    throw Error(ErrorKind::data,
                {.what = fmt::format("what stands at byte {} is not UTF-8", character_.offset),
                 .why = "texts are UTF-8",
                 .hint = "convert it with iconv, or keep such bytes with --unknown=map",
                 .where = where});
  }
  report_.note(&ReadReport::mapped, [&] {
    return fmt::format("{}: what stands at byte {} is not UTF-8 and is kept", where,
                       character_.offset);
  });
}

}  // namespace longscan

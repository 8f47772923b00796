// Reader, split, writer: from the inputs to the token store.
#include "io/pack.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "io/fasta.h"
#include "io/sha256.h"
#include "io/text.h"
#include "kernels/error.h"

namespace longscan {
namespace {

namespace fs = std::filesystem;

bool is_text(const std::string& path) {
  std::error_code ignored;
  return fs::path(path).extension() == ".txt" || fs::is_directory(path, ignored);
}

InputFormat format_of(const PackOptions& options) {
  if (options.format != InputFormat::automatic) return options.format;
  const bool text = std::any_of(options.inputs.begin(), options.inputs.end(), is_text);
  return text ? InputFormat::text : InputFormat::fasta;
}

void check(const PackOptions& options, InputFormat format) {
  const auto refuse = [](const char* what, const char* hint) {
    throw Error(ErrorKind::usage, {.what = what, .hint = hint});
  };
  if (options.inputs.empty()) refuse("there is nothing to pack", "name a file or a folder");
  if (options.output.empty()) refuse("the token store has no name", "name a file to write");
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    refuse("the validation fraction is out of range", "it is at least 0 and below 1");
  }
  if (format != InputFormat::text) return;
  if (options.inputs.size() > 1) {
    refuse("there are several inputs", "texts are one .txt file or one folder with train/*.txt");
  }
  if (options.inputs[0] == "-") {
    refuse("a text cannot come from standard input", "it is read twice: name a file");
  }
}

/// Uniform in [0, 1) by the record's identifier and letters.
double draw(const std::string& identifier, const std::string& letters) {
  Sha256 hash;
  hash.update(identifier);
  hash.update("\n");
  hash.update(letters);
  constexpr int kDigits = 13;  // 52 bits, exact in a double
  return std::ldexp(
      static_cast<double>(std::stoull(hash.hex_digest().substr(0, kDigits), nullptr, 16)),
      -4 * kDigits);
}

ReadReport pack_fasta(const PackOptions& options, TokenStoreWriter& writer) {
  FastaReader reader(options.inputs, options.unknown);
  std::string letters;
  while (reader.next_record()) {
    letters.clear();
    for (auto piece = reader.read(); !piece.empty(); piece = reader.read()) letters += piece;
    if (letters.empty()) continue;  // the reader counts it
    const FastaHeader& header = reader.header();
    const Split split = draw(header.identifier, letters) < options.validation_fraction
                            ? Split::validation
                            : Split::train;
    writer.append(split, letters);
    writer.end_record(split, header.identifier, header.description);
  }
  return reader.report();
}

void note_empty(const fs::path& path, ReadReport& report) {
  report.note(&ReadReport::empty,
              [&] { return fmt::format("{}: the text is empty and is left out", path.string()); });
}

ReadReport pack_folder(const PackOptions& options, TokenStoreWriter& writer) {
  ReadReport report;
  for (const TextFile& file : list_texts(options.inputs[0], report)) {
    TextReader reader(file.path, options.unknown, report);
    bool empty = true;
    for (auto piece = reader.read(); !piece.empty(); piece = reader.read()) {
      writer.append(file.split, {piece.data(), piece.size()});
      empty = false;
    }
    if (empty) {
      note_empty(file.path, report);
    } else {
      writer.end_record(file.split, file.identifier, file.title);
    }
  }
  return report;
}

bool continues_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

/// One record in `train` and, of the text's last part, one in `validation`; the cut is moved to the
/// next beginning of a character.
ReadReport pack_file(const PackOptions& options, TokenStoreWriter& writer) {
  const fs::path path = options.inputs[0];
  ReadReport report;
  TextReader whole(path, options.unknown, report);
  while (!whole.read().empty()) {
  }
  if (report.letters == 0) note_empty(path, report);
  const auto part = static_cast<double>(report.letters) * options.validation_fraction;
  const std::int64_t cut = report.letters - static_cast<std::int64_t>(part);

  ByteSource source(path.string());
  const std::string identifier = path.stem().string();
  Split split = Split::train;
  std::int64_t offset = 0;
  for (auto piece = source.read(); !piece.empty(); piece = source.read()) {
    const std::string_view bytes(piece.data(), piece.size());
    std::size_t first = 0;  // bytes that still belong to `train`
    if (split == Split::train) {
      first =
          std::min(bytes.size(), static_cast<std::size_t>(std::max<std::int64_t>(0, cut - offset)));
      while (first < bytes.size() && continues_character(bytes[first])) ++first;
      writer.append(split, bytes.substr(0, first));
      if (first < bytes.size()) {
        writer.end_record(split, identifier, "");
        split = Split::validation;
      }
    }
    writer.append(split, bytes.substr(first));
    offset += static_cast<std::int64_t>(bytes.size());
  }
  if (offset > 0) writer.end_record(split, identifier, "");
  return report;
}

ReadReport pack_inputs(const PackOptions& options, InputFormat format, TokenStoreWriter& writer) {
  if (format == InputFormat::fasta) return pack_fasta(options, writer);
  std::error_code ignored;
  if (fs::is_directory(options.inputs[0], ignored)) return pack_folder(options, writer);
  return pack_file(options, writer);
}

}  // namespace

PackReport pack(const PackOptions& options) {
  const InputFormat format = format_of(options);
  check(options, format);
  const Vocabulary vocabulary =
      format == InputFormat::fasta ? Vocabulary::protein() : Vocabulary::bytes();
  TokenStoreWriter writer(options.output, vocabulary);
  PackReport report;
  report.reading = pack_inputs(options, format, writer);
  report.vocabulary = vocabulary.name();
  if (writer.records(Split::train) == 0) {
    const bool drawn_away = writer.records(Split::validation) > 0;
    throw Error(ErrorKind::data, {.what = "there is nothing to train on",
                                  .why = drawn_away ? "every record was drawn for validation"
                                                    : "the input has no record with a letter",
                                  .hint = drawn_away ? "--validation-fraction=0 draws none" : "",
                                  .where = options.inputs[0]});
  }
  report.content_hash = writer.finish(report.reading);

  report.parts = summarize(TokenStore(options.output));
  return report;
}

}  // namespace longscan

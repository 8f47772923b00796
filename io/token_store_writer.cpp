// The writing half of token_store.h.
#include <algorithm>

#include "io/hdf5_output.h"
#include "io/sha256.h"
#include "io/token_store.h"
#include "io/token_store_format.h"

namespace longscan {
namespace {

constexpr std::int64_t kChunk = 32 * 1024;     // elements; small, since windows are read at random
constexpr std::size_t kHeldBack = 256 * 1024;  // elements a dataset holds in memory before writing

/// A growing dataset behind a buffer.
template <class T>
class Column {
 public:
  Column(hid_t group, const std::string& name, hid_t stored_type)
      : dataset_(hdf5::create_growing(group, name, stored_type, kChunk)) {}

  void push(T value) {
    held_back_.push_back(value);
    if (held_back_.size() >= kHeldBack) flush();
  }
  void push_line(std::string line) {
    std::replace(line.begin(), line.end(), '\n', ' ');
    for (const char letter : line) push(static_cast<T>(letter));
    push('\n');
  }
  void flush() {
    hash_.update(held_back_.data(), held_back_.size() * sizeof(T));
    hdf5::append(dataset_, hdf5::type_of<T>(), held_back_.data(),
                 static_cast<std::int64_t>(held_back_.size()));
    held_back_.clear();
  }
  /// Flushes; the SHA-256 of everything pushed.
  std::string finish() {
    flush();
    return hash_.hex_digest();
  }

 private:
  hdf5::Dataset dataset_;
  std::vector<T> held_back_;
  Sha256 hash_;
};

class SplitWriter {
 public:
  SplitWriter(const hdf5::File& file, Split split, const Vocabulary& vocabulary)
      : group_(hdf5::create_group(file.id(), name_of(split))),
        tokens_(group_.id(), "tokens",
                vocabulary.size() <= 256 ? hdf5::type_of<std::uint8_t>()
                                         : hdf5::type_of<std::uint16_t>()),
        record_offsets_(group_.id(), "record_offsets", hdf5::type_of<std::int64_t>()),
        identifiers_(group_.id(), "identifiers", hdf5::type_of<std::uint8_t>()),
        titles_(group_.id(), "titles", hdf5::type_of<std::uint8_t>()),
        histogram_(static_cast<std::size_t>(vocabulary.size())) {
    record_offsets_.push(0);
  }

  void push(std::int32_t token) {
    tokens_.push(static_cast<std::uint16_t>(token));
    ++histogram_[static_cast<std::size_t>(token)];
    ++tokens;
  }
  void end_record(std::int32_t end, std::string identifier, std::string title) {
    push(end);
    record_offsets_.push(tokens);
    identifiers_.push_line(std::move(identifier));
    titles_.push_line(std::move(title));
    ++records;
  }
  /// The content hash.
  std::string finish() {
    const std::string hash = sha256_of(tokens_.finish() + record_offsets_.finish());
    identifiers_.finish();
    titles_.finish();
    hdf5::write_vector<std::int64_t>(group_.id(), "histogram", histogram_);
    hdf5::write_attribute(group_.id(), "content_hash", hash);
    return hash;
  }

  std::int64_t tokens = 0;
  std::int64_t records = 0;

 private:
  hdf5::Group group_;
  Column<std::uint16_t> tokens_;
  Column<std::int64_t> record_offsets_;
  Column<std::uint8_t> identifiers_;
  Column<std::uint8_t> titles_;
  std::vector<std::int64_t> histogram_;
};

}  // namespace

struct TokenStoreWriter::Contents {
  Contents(const std::filesystem::path& path, const Vocabulary& letters)
      : vocabulary(letters), output(path, "the token store") {
    for (const Split split : kSplits) splits.emplace_back(output.file(), split, vocabulary);
  }

  SplitWriter& of(Split split) { return splits[static_cast<std::size_t>(split)]; }

  /// Everything that is written once; returns the content hash.
  std::string write_rest(const ReadReport& report) {
    std::array<std::string, 3> split_hashes;
    for (const Split split : kSplits) {
      split_hashes[static_cast<std::size_t>(split)] = of(split).finish();
    }
    const std::string hash = store_format::content_hash_of(vocabulary, split_hashes);
    hdf5::write_text(output.id(), "letters", vocabulary.letters());
    hdf5::write_lines(output.id(), "notices", report.notices);
    for (const auto& [name, count] : store_format::kCounts) {
      hdf5::write_attribute(output.id(), name, report.*count);
    }
    hdf5::write_attribute(output.id(), "format", store_format::kFormat);
    hdf5::write_attribute(output.id(), "format_version", store_format::kVersion);
    hdf5::write_attribute(output.id(), "vocabulary", vocabulary.name());
    hdf5::write_attribute(output.id(), "content_hash", hash);
    hdf5::flush(output.file());
    return hash;
  }

  Vocabulary vocabulary;
  Hdf5Output output;
  std::vector<SplitWriter> splits;
};

TokenStoreWriter::TokenStoreWriter(const std::filesystem::path& path, const Vocabulary& vocabulary)
    : contents_(std::make_unique<Contents>(path, vocabulary)) {}

TokenStoreWriter::~TokenStoreWriter() = default;

std::int64_t TokenStoreWriter::tokens(Split split) const {
  return contents_->of(split).tokens;
}
std::int64_t TokenStoreWriter::records(Split split) const {
  return contents_->of(split).records;
}

void TokenStoreWriter::append(Split split, std::string_view letters) {
  SplitWriter& writer = contents_->of(split);
  contents_->output.write([&] {
    for (const char letter : letters) {
      const std::int32_t token = contents_->vocabulary.encode(letter);
      if (token < 0) {
        throw Error(
            ErrorKind::internal,
            {.what = fmt::format("byte {} has no token", static_cast<unsigned char>(letter)),
             .why = "the reader lets only letters of the vocabulary pass"});
      }
      writer.push(token);
    }
  });
}

void TokenStoreWriter::end_record(Split split, std::string identifier, std::string title) {
  contents_->output.write([&] {
    contents_->of(split).end_record(contents_->vocabulary.end(), std::move(identifier),
                                    std::move(title));
  });
}

std::string TokenStoreWriter::finish(const ReadReport& report) {
  std::string hash;
  contents_->output.write([&] { hash = contents_->write_rest(report); });
  contents_->splits.clear();
  contents_->output.publish();
  return hash;
}

}  // namespace longscan

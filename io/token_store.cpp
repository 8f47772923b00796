// The reading half of token_store.h.
#include "io/token_store.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/hdf5.h"
#include "io/token_store_format.h"
#include "kernels/tensor.h"

namespace longscan {
namespace {

constexpr std::int64_t kSearchBlock = 4096;  // record offsets that a search reads at its end

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& why) {
  throw Error(ErrorKind::data, {.what = "this is no token store that can be used",
                                .why = why,
                                .hint = "write it anew with longscan pack",
                                .where = path.string()});
}

/// Runs `body`; what HDF5 cannot read in it is a fault of the file's contents.
template <class Body>
auto reading(const std::filesystem::path& path, const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::io) throw;
    refuse(path, error.what());
  }
}

hdf5::File open_existing(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    throw Error(ErrorKind::missing, {.what = "there is no such token store",
                                     .hint = "longscan pack writes one",
                                     .where = path.string()});
  }
  return hdf5::open_file(path.string());
}

/// The length of a dataset of one dimension.
std::int64_t length_of(const hdf5::Dataset& dataset) {
  const std::vector<std::int64_t> shape = hdf5::shape_of(dataset);
  if (shape.size() == 1) return shape[0];
  throw Error(ErrorKind::io, {.what = "a dataset has not one dimension"});
}

struct SplitReader {
  SplitReader(const hdf5::File& file, Split split)
      : group(hdf5::open_group(file.id(), name_of(split))),
        token_dataset(hdf5::open_dataset(group.id(), "tokens")),
        offset_dataset(hdf5::open_dataset(group.id(), "record_offsets")),
        content_hash(hdf5::read_string_attribute(group.id(), "content_hash")),
        tokens(length_of(token_dataset)),
        records(std::max<std::int64_t>(0, length_of(offset_dataset) - 1)) {}

  std::vector<std::int64_t> offsets(std::int64_t begin, std::int64_t end) const {
    std::vector<std::int64_t> values(static_cast<std::size_t>(end - begin));
    hdf5::read_range(offset_dataset, hdf5::type_of<std::int64_t>(), begin, end - begin,
                     values.data());
    return values;
  }

  hdf5::Group group;
  hdf5::Dataset token_dataset;
  hdf5::Dataset offset_dataset;
  std::string content_hash;
  std::int64_t tokens;
  std::int64_t records;
};

}  // namespace

struct TokenStore::Contents {
  explicit Contents(const std::filesystem::path& path) : file(open_existing(path)) {}

  const SplitReader& of(Split split) const { return splits[static_cast<std::size_t>(split)]; }

  hdf5::File file;
  std::vector<SplitReader> splits;
};

TokenStore::TokenStore(const std::filesystem::path& path) : path_(path) {
  reading(path_, [&] {
    contents_ = std::make_unique<Contents>(path_);
    check_format();
    for (const Split split : kSplits) contents_->splits.emplace_back(contents_->file, split);
    check_contents();
  });
}

TokenStore::~TokenStore() = default;
TokenStore::TokenStore(TokenStore&&) noexcept = default;
TokenStore& TokenStore::operator=(TokenStore&&) noexcept = default;

void TokenStore::check_format() {
  const hid_t file = contents_->file.id();
  if (!hdf5::has_attribute(file, "format") ||
      hdf5::read_string_attribute(file, "format") != store_format::kFormat) {
    refuse(path_, "it is an HDF5 file of another kind");
  }
  const std::int64_t version = hdf5::read_integer_attribute(file, "format_version");
  if (version != store_format::kVersion) {
    refuse(path_, fmt::format("it has format version {}, this program reads version {}", version,
                              store_format::kVersion));
  }
  const std::string name = hdf5::read_string_attribute(file, "vocabulary");
  if (name != "protein" && name != "bytes") refuse(path_, "its vocabulary is '" + name + "'");
  vocabulary_ = Vocabulary::named(name);
  if (hdf5::read_text(file, "letters") != vocabulary_.letters()) {
    refuse(path_, fmt::format("its vocabulary '{}' has other letters", name));
  }
  content_hash_ = hdf5::read_string_attribute(file, "content_hash");
}

void TokenStore::check_contents() const {
  std::array<std::string, 3> split_hashes;
  for (const Split split : kSplits) {
    const SplitReader& reader = contents_->of(split);
    const std::vector<std::int64_t> last = record_offsets(split, reader.records, reader.records);
    const std::vector<std::int64_t> counts = histogram(split);
    std::int64_t counted = 0;
    for (const std::int64_t count : counts) counted += count;
    if (last[0] != reader.tokens || counted != reader.tokens ||
        static_cast<std::int64_t>(counts.size()) != vocabulary_.size()) {
      refuse(path_,
             fmt::format("the numbers of tokens in '{}' contradict each other", name_of(split)));
    }
    split_hashes[static_cast<std::size_t>(split)] = reader.content_hash;
  }
  if (content_hash_ != store_format::content_hash_of(vocabulary_, split_hashes)) {
    refuse(path_, "its content hash is not that of its splits");
  }
}

ReadReport TokenStore::report() const {
  return reading(path_, [&] {
    ReadReport report;
    for (const auto& [name, count] : store_format::kCounts) {
      report.*count = hdf5::read_integer_attribute(contents_->file.id(), name);
    }
    report.notices = hdf5::read_lines(contents_->file.id(), "notices");
    return report;
  });
}

std::int64_t TokenStore::tokens(Split split) const {
  return contents_->of(split).tokens;
}
std::int64_t TokenStore::records(Split split) const {
  return contents_->of(split).records;
}

std::vector<std::int64_t> TokenStore::histogram(Split split) const {
  return reading(path_, [&] {
    return hdf5::read_vector<std::int64_t>(contents_->of(split).group.id(), "histogram");
  });
}

std::vector<std::string> TokenStore::identifiers(Split split) const {
  return reading(path_,
                 [&] { return hdf5::read_lines(contents_->of(split).group.id(), "identifiers"); });
}

std::vector<std::string> TokenStore::titles(Split split) const {
  return reading(path_,
                 [&] { return hdf5::read_lines(contents_->of(split).group.id(), "titles"); });
}

std::vector<std::int32_t> TokenStore::read(Split split, std::int64_t begin,
                                           std::int64_t end) const {
  require(0 <= begin && begin <= end && end <= tokens(split), "TokenStore::read",
          "the range must lie within the split");
  return reading(path_, [&] {
    std::vector<std::int32_t> values(static_cast<std::size_t>(end - begin));
    hdf5::read_range(contents_->of(split).token_dataset, hdf5::type_of<std::int32_t>(), begin,
                     end - begin, values.data());
    return values;
  });
}

std::vector<std::int64_t> TokenStore::record_offsets(Split split, std::int64_t begin,
                                                     std::int64_t end) const {
  require(0 <= begin && begin <= end && end <= records(split), "TokenStore::record_offsets",
          "the range must lie within the split");
  return reading(path_, [&] { return contents_->of(split).offsets(begin, end + 1); });
}

std::int64_t TokenStore::record_of(Split split, std::int64_t token) const {
  require(0 <= token && token < tokens(split), "TokenStore::record_of",
          "the token must lie within the split");
  const hdf5::Guard guard;  // once for all probes
  return reading(path_, [&] {
    const SplitReader& reader = contents_->of(split);
    std::int64_t begin = 0;
    std::int64_t end = reader.records;
    while (end - begin > kSearchBlock) {
      const std::int64_t middle = begin + (end - begin) / 2;
      (reader.offsets(middle, middle + 1)[0] <= token ? begin : end) = middle;
    }
    const std::vector<std::int64_t> offsets = reader.offsets(begin, end);
    const auto after = std::upper_bound(offsets.begin(), offsets.end(), token);
    return begin + (after - offsets.begin()) - 1;
  });
}

std::vector<double> unigram_losses(const TokenStore& store) {
  const std::vector<std::int64_t> train = store.histogram(Split::train);
  const auto total = static_cast<double>(store.tokens(Split::train) + store.vocabulary().size());
  std::vector<double> losses;
  for (const std::int64_t count : train) {
    losses.push_back(-std::log(static_cast<double>(count + 1) / total));
  }
  return losses;
}

double unigram_perplexity(const TokenStore& store, Split split) {
  if (store.tokens(split) == 0) return std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> losses = unigram_losses(store);
  const std::vector<std::int64_t> counts = store.histogram(split);
  double cross_entropy = 0;
  for (std::size_t token = 0; token < counts.size(); ++token) {
    cross_entropy += static_cast<double>(counts[token]) * losses[token];
  }
  return std::exp(cross_entropy / static_cast<double>(store.tokens(split)));
}

std::array<SplitSummary, 3> summarize(const TokenStore& store) {
  std::array<SplitSummary, 3> summaries;
  for (const Split split : kSplits) {
    summaries[static_cast<std::size_t>(split)] = {
        .records = store.records(split),
        .tokens = store.tokens(split),
        .unigram_perplexity = unigram_perplexity(store, split)};
  }
  return summaries;
}

}  // namespace longscan

// The shared half of `longscan inspect attention` and `longscan inspect similarity`.
#include "launch/attention_source.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <new>
#include <numeric>
#include <system_error>

#include "io/atomic_file.h"
#include "kernels/error.h"
#include "launch/saved_run.h"
#include "launch/settings.h"
#include "launch/verbs.h"

namespace longscan {

namespace {

/// A matrix of so many tokens takes 4 GiB a head.
constexpr std::int64_t kMostTokens = 1 << 15;

/// `chosen`, or all of [0, count).
std::vector<std::int64_t> chosen_of(const std::optional<std::int64_t>& chosen, std::int64_t count,
                                    const char* noun) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  if (!chosen.has_value()) return all;
  if (*chosen >= 0 && *chosen < count) return {*chosen};
  throw Error(ErrorKind::usage, {.what = fmt::format("there is no {} {}", noun, *chosen),
                                 .why = fmt::format("the model has {} to {}", 0, count - 1),
                                 .where = fmt::format("--{}", noun)});
}

void require_finite(const Tensor& numbers, const std::string& whose, const OpenedCheckpoint& from) {
  const std::span<const float> values{numbers.as<float>(),
                                      static_cast<std::size_t>(numbers.size())};
  const auto odd = std::find_if_not(values.begin(), values.end(),
                                    [](float value) { return std::isfinite(value); });
  if (odd == values.end()) return;
  throw Error(ErrorKind::data, {.what = fmt::format("a number of {} is {}", whose, *odd),
                                .why = "it must be finite",
                                .hint = "the checkpoint may come from a diverged run",
                                .where = from.path.string()});
}

/// Tries it, since much is to be done before it is written.
void require_writable(const std::string& path) {
  if (std::filesystem::is_directory(path)) {
    throw Error(ErrorKind::usage, {.what = "there is a folder of this name", .where = path});
  }
  try {
    const AtomicFile trial(path);
    std::error_code ignored;
    std::filesystem::remove(trial.temporary(), ignored);
    FileDescriptor::create(trial.temporary());
  } catch (const Error& error) {
    throw Error(error.kind(), {.what = "the file cannot be made",
                               .why = error.what(),
                               .hint = "check the path and who may write there",
                               .where = path});
  }
}

}  // namespace

void AttentionChoice::declare(CLI::App& app) {
  app.add_option("--checkpoint", checkpoint, "a checkpoint, or a run's folder for its latest")
      ->required();
  app.add_option("--fasta", fasta, "a FASTA file (.gz or plain, - for standard input)")->required();
  app.add_option("--out", output, "writes OUT.h5 and OUT.png")->required();
  app.add_option("--layer", layer, "only this layer, counted from 0");
  app.add_option("--head", head, "only this head of each layer, counted from 0");
  app.add_option("--longest", longest, "tokens of the longest record; a matrix has their square")
      ->check(CLI::Range(std::int64_t{1}, kMostTokens))
      ->capture_default_str();
  app.add_option("--unknown", unknown,
                 "what to do with letters that have no token: error, or map (read as X)")
      ->check(CLI::IsMember({"error", "map"}))
      ->capture_default_str();
  device.declare(app);
  app.add_flag("--overwrite", overwrite, "replace files of these names");
}

void AttentionChoice::require_output() const {
  if (std::filesystem::path(output).filename().empty()) {
    throw Error(ErrorKind::usage, {.what = "the files have no name",
                                   .hint = "name them without their endings, as in --out maps/mine",
                                   .where = "--out"});
  }
  for (const std::string& path : {numbers(), picture()}) {
    if (!overwrite && std::filesystem::exists(path)) {
      throw Error(
          ErrorKind::usage,
          {.what = "the file exists already", .hint = "--overwrite replaces it", .where = path});
    }
    require_writable(path);
  }
}

FastaReader AttentionChoice::open_fasta() const {
  return {{fasta}, unknown == "map" ? Unknown::map : Unknown::error};
}

AttentionSource::AttentionSource(Session& session, const AttentionChoice& choice)
    : checkpoint_(open_checkpoint(session, choice.checkpoint)),
      longest_(choice.longest),
      computes_(session, choice.device),
      parameters_(load_model(session, checkpoint_, model_of(checkpoint_, choice.device.dtype()),
                             computes_.device())),
      alone_(session.world().split(session.rank())),
      transformer_(model_of(checkpoint_, choice.device.dtype()), computes_.device(), *alone_),
      layers_(chosen_of(choice.layer, model().layers, "layer")),
      heads_(chosen_of(choice.head, model().heads, "head")) {
  HostCopy copy;
  require_finite(copy.of(computes_.device(), parameters_.flat()), "its parameters", checkpoint_);
  transformer_.draw_features(checkpoint_.header.seed, checkpoint_.header.step);
}

bool AttentionSource::predicts_next() const {
  return checkpoint_.configuration.training().objective() == config::Training::next_token;
}

std::int64_t AttentionSource::longest() const {
  return counts_places(model()) ? std::min(longest_, model().longest_document) : longest_;
}

std::vector<std::int32_t> AttentionSource::tokens_of(std::string_view letters) const {
  std::vector<std::int32_t> tokens;
  if (predicts_next()) tokens.push_back(opening(checkpoint_));
  for (const char letter : letters) tokens.push_back(checkpoint_.vocabulary.encode(letter));
  if (!predicts_next()) tokens.push_back(checkpoint_.vocabulary.end());
  return tokens;
}

void AttentionSource::show(
    std::span<const std::int32_t> tokens,
    const std::function<void(std::int64_t layer, const Tensor& matrices)>& see) {
  std::vector<std::int64_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::int64_t document_start = 0;
  const Shard shard{.tokens = tokens,
                    .targets = {},
                    .positions = positions,
                    .document_starts = {&document_start, 1}};
  try {
    transformer_.attention_matrices(
        parameters_.weights(), shard, layers_, {heads_.front(), heads_.back() + 1},
        [&](std::int64_t layer, const Tensor& matrices) {
          require_finite(matrices, fmt::format("layer {}'s attention", layer), checkpoint_);
          see(layer, matrices);
        });
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::internal,
                {.what = "there is not enough memory",
                 .why = fmt::format(
                     "the matrices of {} and {} take {}", counted(std::ssize(tokens), "token"),
                     counted(std::ssize(heads_), "head"),
                     bytes_text(static_cast<double>(std::ssize(heads_)) *
                                static_cast<double>(std::ssize(tokens)) *
                                static_cast<double>(std::ssize(tokens)) * sizeof(float))),
                 .hint = "choose a shorter record, a smaller --longest or one --head",
                 .where = "memory"});
  }
}

std::string read_letters(FastaReader& reader) {
  std::string letters;
  for (auto piece = reader.read(); !piece.empty(); piece = reader.read()) letters += piece;
  return letters;
}

}  // namespace longscan

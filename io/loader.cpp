// From positions of a line to positions of the stream.
#include "io/loader.h"

#include <algorithm>

#include "io/permutation.h"
#include "kernels/error.h"
#include "kernels/tensor.h"

namespace longscan {
namespace {

void check(const LoaderOptions& options) {
  const auto refuse = [](const char* what, std::int64_t value) {
    throw Error(ErrorKind::usage,
                {.what = fmt::format("{} is {}", what, value), .why = "it must be at least 1"});
  };
  if (options.window < 1) refuse("the window", options.window);
  if (options.batch < 1) refuse("the batch", options.batch);
}

// Letters that are predicted, and what becomes of these: the rest stays.
constexpr double kMasked = 0.15;
constexpr double kHidden = 0.8;
constexpr double kReplaced = 0.1;

bool is_letter(std::int32_t token, const Vocabulary& vocabulary) {
  return token < vocabulary.pad();
}

/// What stands in the place of a letter that is to be predicted.
std::int32_t disguise(std::int32_t letter, const RandomWords& words, const Vocabulary& vocabulary) {
  const double choice = uniform_from(words[1]);
  if (choice < kHidden) return vocabulary.mask();
  if (choice >= kHidden + kReplaced) return letter;
  return static_cast<std::int32_t>(uniform_from(words[2]) * vocabulary.pad());
}

bool has_letters(const TokenStore& store, Split split) {
  const std::vector<std::int64_t> counts = store.histogram(split);
  const auto letters = counts.begin() + store.vocabulary().pad();
  return std::any_of(counts.begin(), letters, [](std::int64_t count) { return count > 0; });
}

}  // namespace

Loader::Loader(const TokenStore& store, const LoaderOptions& options, LoaderState state)
    : store_(store), options_(options), stream_tokens_(store.tokens(options.split)) {
  check(options);
  const auto refuse = [&](const std::string& what, const std::string& why) {
    throw Error(ErrorKind::data, {.what = what, .why = why, .where = store.path().string()});
  };
  windows_ = (stream_tokens_ + options.window - 1) / options.window;
  state_ = state;
  if (windows_ == 0) {
    refuse(fmt::format("the split '{}' is empty", name_of(options.split)),
           "the corpus has no records for it");
  }
  if (options.objective == Objective::masked_token && !has_letters(store, options.split)) {
    refuse(fmt::format("the split '{}' has no letters", name_of(options.split)),
           "only letters are masked");
  }
  if (state.epoch < 0 || state.window < 0 || state.window >= windows_) {
    refuse(fmt::format("window {} of epoch {} does not exist", state.window, state.epoch),
           fmt::format("an epoch has {} windows", windows_));
  }
}

void Loader::advance() {
  const std::int64_t window = state_.window + options_.batch;
  state_ = {.epoch = state_.epoch + window / windows_, .window = window % windows_};
}

Loader::Window Loader::window_at(std::int64_t index) const {
  std::int64_t window = state_.window + index;
  const std::int64_t epoch = state_.epoch + window / windows_;
  if (!options_.repeat && epoch > 0) return {.epoch = epoch, .origin = stream_tokens_};
  window %= windows_;
  if (options_.shuffle) {
    const RandomKey key = {.seed = options_.seed,
                           .purpose = RandomPurpose::shuffle,
                           .step = static_cast<std::uint64_t>(epoch)};
    window = KeyedPermutation(windows_, key).at(window);
  }
  return {.epoch = epoch, .origin = window * options_.window};
}

TokenRun Loader::read(std::int64_t begin, std::int64_t end) const {
  require(0 <= begin && begin <= end && end <= line_tokens(), "Loader::read",
          "the range must lie within the line");
  const std::int64_t length = options_.window;
  TokenRun run;
  run.first_token = begin;
  if (begin == end) return run;  // a shard may be empty
  for (std::int64_t index = begin / length; index * length < end; ++index) {
    append_window(window_at(index), std::max<std::int64_t>(begin - index * length, 0),
                  std::min(end - index * length, length), run);
  }
  return run;
}

void Loader::append_window(const Window& window, std::int64_t begin, std::int64_t end,
                           TokenRun& run) const {
  const Vocabulary& vocabulary = store_.vocabulary();
  const std::size_t base = run.tokens.size();
  // Positions of the window that the stream fills; pads are a document behind them.
  const std::int64_t filled = std::min(stream_tokens_ - window.origin, options_.window);
  std::vector<std::int64_t> starts;
  if (begin < filled) {
    const std::int64_t first = window.origin + begin;
    const std::int64_t last = window.origin + std::min(end, filled);
    const bool shifted = options_.objective == Objective::next_token;
    shifted ? append_next(first, last, run) : append_masked(window.epoch, first, last, run);
    starts = {0};
    if (options_.isolate_records) {
      starts = record_starts(window.origin, begin, last - window.origin);
      for (const std::int64_t start : starts) {
        if (!shifted || start < begin) continue;
        run.tokens[base + static_cast<std::size_t>(start - begin)] = vocabulary.begin();
      }
    }
    // The record that the window begins in the middle of.
    starts[0] = std::max<std::int64_t>(starts[0], 0);
  }
  if (end > filled) starts.push_back(filled);
  run.tokens.resize(base + static_cast<std::size_t>(end - begin), vocabulary.pad());
  run.targets.resize(run.tokens.size(), TokenRun::kNoTarget);
  append_positions(starts, begin, end, run);
}

void Loader::append_next(std::int64_t first, std::int64_t last, TokenRun& run) const {
  // The token before the first target as well: it is the first input.
  std::vector<std::int32_t> stream =
      store_.read(options_.split, std::max<std::int64_t>(first - 1, 0), last);
  if (first == 0) stream.insert(stream.begin(), store_.vocabulary().begin());
  run.tokens.insert(run.tokens.end(), stream.begin(), stream.end() - 1);
  run.targets.insert(run.targets.end(), stream.begin() + 1, stream.end());
}

void Loader::append_masked(std::int64_t epoch, std::int64_t first, std::int64_t last,
                           TokenRun& run) const {
  const Vocabulary& vocabulary = store_.vocabulary();
  const RandomKey key = {.seed = options_.seed,
                         .purpose = RandomPurpose::masking,
                         .step = static_cast<std::uint64_t>(epoch)};
  std::int64_t index = first;
  for (const std::int32_t token : store_.read(options_.split, first, last)) {
    const RandomWords words = random_words(key, static_cast<std::uint64_t>(index++));
    const bool masked = is_letter(token, vocabulary) && uniform_from(words[0]) < kMasked;
    run.tokens.push_back(masked ? disguise(token, words, vocabulary) : token);
    run.targets.push_back(masked ? token : TokenRun::kNoTarget);
  }
}

std::vector<std::int64_t> Loader::record_starts(std::int64_t origin, std::int64_t begin,
                                                std::int64_t end) const {
  std::vector<std::int64_t> starts =
      store_.record_offsets(options_.split, store_.record_of(options_.split, origin + begin),
                            store_.record_of(options_.split, origin + end - 1));
  for (std::int64_t& start : starts) start -= origin;
  return starts;
}

void Loader::append_positions(const std::vector<std::int64_t>& starts, std::int64_t begin,
                              std::int64_t end, TokenRun& run) {
  for (std::size_t document = 0; document < starts.size(); ++document) {
    const std::int64_t document_end = document + 1 < starts.size() ? starts[document + 1] : end;
    if (starts[document] >= begin) {
      run.document_starts.push_back(static_cast<std::int64_t>(run.positions.size()));
    }
    for (std::int64_t position = std::max(starts[document], begin); position < document_end;
         ++position) {
      run.positions.push_back(position - starts[document]);
    }
  }
}

bool Loader::has_targets() const {
  // Among so many letters there mostly is one; and few are read to see it.
  constexpr std::int64_t kTokensAtOnce = 1024;
  for (std::int64_t index = 0; index < options_.batch; ++index) {
    const std::int64_t filled = std::min(stream_tokens_ - window_at(index).origin, options_.window);
    if (filled > 0 && options_.objective == Objective::next_token) return true;
    for (std::int64_t begin = 0; begin < filled; begin += kTokensAtOnce) {
      const std::int64_t end = std::min(begin + kTokensAtOnce, filled);
      const std::int64_t window = index * options_.window;
      for (const std::int32_t target : read(window + begin, window + end).targets) {
        if (target != TokenRun::kNoTarget) return true;
      }
    }
  }
  return false;
}

}  // namespace longscan

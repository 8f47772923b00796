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
  if (state.epoch < 0 || state.window < 0 || state.window >= windows_) {
    refuse(fmt::format("window {} of epoch {} does not exist", state.window, state.epoch),
           fmt::format("an epoch has {} windows", windows_));
  }
}

void Loader::advance() {
  const std::int64_t window = state_.window + options_.batch;
  state_ = {.epoch = state_.epoch + window / windows_, .window = window % windows_};
}

std::int64_t Loader::window_at(std::int64_t index) const {
  const std::int64_t window = state_.window + index;
  const std::int64_t epoch = state_.epoch + window / windows_;
  if (!options_.repeat && epoch > 0) return -1;
  if (!options_.shuffle) return window % windows_;
  const RandomKey key = {.seed = options_.seed,
                         .purpose = RandomPurpose::shuffle,
                         .step = static_cast<std::uint64_t>(epoch)};
  return KeyedPermutation(windows_, key).at(window % windows_);
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

void Loader::append_window(std::int64_t window, std::int64_t begin, std::int64_t end,
                           TokenRun& run) const {
  const Vocabulary& vocabulary = store_.vocabulary();
  const std::size_t base = run.tokens.size();
  const std::int64_t first = window * options_.window + begin;
  if (window >= 0 && first < stream_tokens_) {
    // The token before the first target as well: it is the first input.
    const std::int64_t last = std::min(first + end - begin, stream_tokens_);
    std::vector<std::int32_t> stream =
        store_.read(options_.split, std::max<std::int64_t>(first - 1, 0), last);
    if (first == 0) stream.insert(stream.begin(), vocabulary.begin());
    run.tokens.insert(run.tokens.end(), stream.begin(), stream.end() - 1);
    run.targets.insert(run.targets.end(), stream.begin() + 1, stream.end());
  }
  run.tokens.resize(base + static_cast<std::size_t>(end - begin), vocabulary.pad());
  run.targets.resize(run.tokens.size(), TokenRun::kNoTarget);

  std::vector<std::int64_t> starts = {0};
  if (options_.isolate_records && window >= 0) {
    starts = record_starts(window, begin, end);
    for (const std::int64_t start : starts) {
      if (start >= begin)
        run.tokens[base + static_cast<std::size_t>(start - begin)] = vocabulary.begin();
    }
    // The record that the window begins in the middle of.
    starts[0] = std::max<std::int64_t>(starts[0], 0);
  }
  append_positions(starts, begin, end, run);
}

std::vector<std::int64_t> Loader::record_starts(std::int64_t window, std::int64_t begin,
                                                std::int64_t end) const {
  const std::int64_t origin = window * options_.window;
  const auto record_at = [&](std::int64_t position) {
    return store_.record_of(options_.split, std::min(origin + position, stream_tokens_ - 1));
  };
  std::vector<std::int64_t> starts =
      store_.record_offsets(options_.split, record_at(begin), record_at(end - 1));
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

std::int64_t Loader::count_targets() const {
  std::int64_t targets = 0;
  for (std::int64_t index = 0; index < options_.batch; ++index) {
    const std::int64_t window = window_at(index);
    if (window < 0) continue;
    targets += std::min(options_.window, stream_tokens_ - window * options_.window);
  }
  return targets;
}

}  // namespace longscan

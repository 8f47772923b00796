// Cuts a split of a token store into windows and hands out any part of a step's line.
//
// The stream of a split is its tokens: records, each followed by `end`. Window w is about
// stream[w * L .. (w + 1) * L). To predict the next token, these are its targets; the input at each
// of its positions is the token before the target, `begin` where there is none (and, with
// isolate_records, at the first target of each record). So every token of the stream is predicted
// exactly once an epoch. To predict masked tokens, these are its inputs, some of them hidden, which
// are its targets. The last window may be short: its missing positions have input `pad`, no target,
// and are a document of their own.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "io/split.h"
#include "io/token_store.h"

namespace longscan {

/// What there is to predict.
enum class Objective {
  next_token,  ///< every token of the stream, from those before it
  /// 15 % of the letters, from everything else (Devlin et al. 2018): 80 % of these are replaced by
  /// `mask`, 10 % by any letter, and 10 % stay. Which, is a function of seed, epoch and the token's
  /// index in the stream.
  masked_token
};

struct LoaderOptions {
  Split split = Split::train;
  std::int64_t window = 4096;  ///< L, tokens
  std::int64_t batch = 1;      ///< windows of a line
  /// True: a record begins a document of its own. False: a window is one document.
  bool isolate_records = false;
  bool shuffle = true;  ///< windows in an order that is keyed by seed and epoch; else as they stand
  std::uint64_t seed = 0;
  /// True: a line that reaches the end of the epoch goes on in the next one. False, for an
  /// evaluation: it is filled up with windows of `pad` and no target.
  bool repeat = true;
  Objective objective = Objective::next_token;
};

/// Where a line begins: the `window`-th window, in shuffled order, of an epoch. All there is to
/// save.
struct LoaderState {
  std::int64_t epoch = 0;
  std::int64_t window = 0;

  bool operator==(const LoaderState&) const = default;
};

/// Tokens [first_token, first_token + n) of a line.
struct TokenRun {
  static constexpr std::int32_t kNoTarget = -1;

  std::int64_t first_token = 0;         ///< index within the line
  std::vector<std::int32_t> tokens;     ///< [n] inputs
  std::vector<std::int32_t> targets;    ///< [n] the token to predict here, or kNoTarget
  std::vector<std::int64_t> positions;  ///< [n] distance from the first token of the document
  /// Indices in [0, n) of tokens that begin a document, ascending. The first token of the run is
  /// one only if a document begins there.
  std::vector<std::int64_t> document_starts;
};

class Loader {
 public:
  /// `store` must outlive the loader. Throws usage when the window or the batch is not positive,
  /// data when the split is empty, has no letter to mask, or the state lies outside of it.
  Loader(const TokenStore& store, const LoaderOptions& options, LoaderState state = {});

  const LoaderOptions& options() const { return options_; }
  std::int64_t windows() const { return windows_; }  ///< windows of an epoch
  std::int64_t line_tokens() const { return options_.batch * options_.window; }

  LoaderState state() const { return state_; }
  /// Goes one line further.
  void advance();
  /// Without `repeat`: the epoch is over and the current line is empty.
  bool finished() const { return !options_.repeat && state_.epoch > 0; }

  /// Tokens [begin, end) of the current line, 0 <= begin <= end <= line_tokens(). Reads these from
  /// the store, and nothing else of the corpus. Throws data when the store is damaged.
  TokenRun read(std::int64_t begin, std::int64_t end) const;

  /// Whether the current line has any target, which few letters may not have when they are masked.
  /// Reads no further than to the first one.
  bool has_targets() const;

 private:
  /// A window of the stream; behind the end of an evaluation it lies behind the stream.
  struct Window {
    std::int64_t epoch = 0;
    std::int64_t origin = 0;  ///< index in the stream of its first position
  };

  /// The line's window `index`.
  Window window_at(std::int64_t index) const;
  /// Appends positions [begin, end) of a window to `run`.
  void append_window(const Window& window, std::int64_t begin, std::int64_t end,
                     TokenRun& run) const;
  /// Appends inputs and targets for [first, last) of the stream.
  void append_next(std::int64_t first, std::int64_t last, TokenRun& run) const;
  void append_masked(std::int64_t epoch, std::int64_t first, std::int64_t last,
                     TokenRun& run) const;
  /// Where the records begin that positions [begin, end) of a window belong to, counted from the
  /// window's first position; negative for a record that began before it.
  std::vector<std::int64_t> record_starts(std::int64_t origin, std::int64_t begin,
                                          std::int64_t end) const;
  /// `starts` are the documents that [begin, end) belongs to, the first at or before `begin`.
  static void append_positions(const std::vector<std::int64_t>& starts, std::int64_t begin,
                               std::int64_t end, TokenRun& run);

  const TokenStore& store_;
  LoaderOptions options_;
  std::int64_t stream_tokens_;
  std::int64_t windows_;
  LoaderState state_;
};

/// The half-open range of part `part` when [0, count) is cut into `parts` parts whose lengths
/// differ by one at most, the longer ones first.
constexpr std::pair<std::int64_t, std::int64_t> part_of(std::int64_t count, std::int64_t part,
                                                        std::int64_t parts) {
  const std::int64_t length = count / parts;
  const std::int64_t longer = count % parts;
  const std::int64_t begin = part * length + (part < longer ? part : longer);
  return {begin, begin + length + (part < longer ? 1 : 0)};
}

}  // namespace longscan

// The loader against a line that is built naively from the whole stream in memory.
#include "io/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "io/permutation.h"
#include "tests/support/input_files.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void expect_equal(const TokenRun& found, const TokenRun& expected) {
  EXPECT_EQ(found.first_token, expected.first_token);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_EQ(found.targets, expected.targets);
  EXPECT_EQ(found.positions, expected.positions);
  EXPECT_EQ(found.document_starts, expected.document_starts);
}

class LoaderTest : public testing::Test {
 protected:
  void make_store(const std::vector<std::string>& records) {
    TokenStoreWriter writer(folder_ / "store.h5", vocabulary_);
    records_ = records;
    for (const std::string& record : records) {
      writer.append(Split::train, record);
      writer.end_record(Split::train, "", "");
    }
    writer.finish({});
    store_.emplace(folder_ / "store.h5");
  }

  /// A whole line by the definition, position by position. The order of windows is asked of the
  /// permutation, whose own tests follow below.
  TokenRun naive_line(const LoaderOptions& options, LoaderState state) const {
    std::vector<std::int32_t> stream;
    std::vector<bool> begins_record;
    for (const std::string& record : records_) {
      for (const char letter : record) stream.push_back(vocabulary_.encode(letter));
      stream.push_back(vocabulary_.end());
      begins_record.push_back(true);
      begins_record.resize(stream.size(), false);
    }
    const auto size = static_cast<std::int64_t>(stream.size());
    const std::int64_t length = options.window;
    const std::int64_t windows = (size + length - 1) / length;
    TokenRun line;
    for (std::int64_t slot = 0; slot < options.batch; ++slot) {
      const std::int64_t epoch = state.epoch + (state.window + slot) / windows;
      std::int64_t window = (state.window + slot) % windows;
      const RandomKey key = {options.seed, RandomPurpose::shuffle,
                             static_cast<std::uint64_t>(epoch)};
      if (options.shuffle) window = KeyedPermutation(windows, key).at(window);
      if (!options.repeat && epoch > 0) window = windows;  // nothing but padding
      std::int64_t document = 0;
      for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t at = window * length + i;
        const bool there = at < size;
        const bool isolated = there && options.isolate_records && begins_record[at];
        if (i == 0 || isolated || at == size) {  // pads are a document
          document = i;
          line.document_starts.push_back(slot * length + i);
        }
        if (there && options.objective == Objective::masked_token) {
          append_masked(stream[at], at, epoch, options.seed, line);
        } else {
          line.tokens.push_back(!there                ? vocabulary_.pad()
                                : at == 0 || isolated ? vocabulary_.begin()
                                                      : stream[at - 1]);
          line.targets.push_back(there ? stream[at] : -1);
        }
        line.positions.push_back(i - document);
      }
    }
    return line;
  }

  /// A token of the stream and what is to be predicted there, by the definition.
  void append_masked(std::int32_t token, std::int64_t at, std::int64_t epoch, std::uint64_t seed,
                     TokenRun& line) const {
    const auto [choice, kind, letter, unused] =
        random_words({seed, RandomPurpose::masking, static_cast<std::uint64_t>(epoch)},
                     static_cast<std::uint64_t>(at));
    const double share = (kind + 0.5) / 4294967296.0;
    const bool masked = token < 26 && (choice + 0.5) / 4294967296.0 < 0.15;
    line.targets.push_back(masked ? token : -1);
    if (masked && share < 0.8) token = 29;
    if (masked && share >= 0.8 && share < 0.9) token = static_cast<int>(26.0 * letter / 0x1p32);
    line.tokens.push_back(token);
  }

  static TokenRun cut(const TokenRun& line, std::int64_t begin, std::int64_t end) {
    TokenRun run;
    run.first_token = begin;
    run.tokens.assign(line.tokens.begin() + begin, line.tokens.begin() + end);
    run.targets.assign(line.targets.begin() + begin, line.targets.begin() + end);
    run.positions.assign(line.positions.begin() + begin, line.positions.begin() + end);
    for (const std::int64_t start : line.document_starts) {
      if (start >= begin && start < end) run.document_starts.push_back(start - begin);
    }
    return run;
  }

  TemporaryFolder folder_;
  Vocabulary vocabulary_ = Vocabulary::protein();
  std::vector<std::string> records_;
  std::optional<TokenStore> store_;
};

const std::vector<std::string> kRecords = {"ACDEFGHIK",          "M", "LMNPQ", "RS",
                                           "TVWYACDEFGHIKLMNPQ", "AC"};

TEST_F(LoaderTest, AWindowPredictsEachTokenFromTheOneBeforeIt) {
  make_store({"AC", "D"});  // the stream: A C end D end
  LoaderOptions options;
  options.window = 3;
  options.batch = 2;
  options.shuffle = false;
  const TokenRun run = Loader(*store_, options).read(0, 6);
  const std::int32_t begin = 27, end = 28, pad = 26;
  EXPECT_THAT(run.tokens, ElementsAre(begin, 0, 1, end, 2, pad));
  EXPECT_THAT(run.targets, ElementsAre(0, 1, end, 2, end, -1));
  EXPECT_THAT(run.positions, ElementsAre(0, 1, 2, 0, 1, 0));
  EXPECT_THAT(run.document_starts, ElementsAre(0, 3, 5));
}

TEST_F(LoaderTest, IsolatedRecordsAreDocumentsThatStartWithBegin) {
  make_store({"AC", "D", "E"});  // the stream: A C end D end E end
  LoaderOptions options;
  options.window = 5;
  options.batch = 2;
  options.shuffle = false;
  options.isolate_records = true;
  const TokenRun run = Loader(*store_, options).read(0, 10);
  const std::int32_t begin = 27, end = 28, pad = 26;
  EXPECT_THAT(run.tokens, ElementsAre(begin, 0, 1, begin, 2, begin, 3, pad, pad, pad));
  EXPECT_THAT(run.targets, ElementsAre(0, 1, end, 2, end, 3, end, -1, -1, -1));
  EXPECT_THAT(run.positions, ElementsAre(0, 1, 2, 0, 1, 0, 1, 0, 1, 2));
  EXPECT_THAT(run.document_starts, ElementsAre(0, 3, 5, 7));
}

TEST_F(LoaderTest, EveryCutOfEveryLineIsThatOfTheNaiveLine) {
  make_store(kRecords);
  for (const std::int64_t window : {1, 2, 5, 7, 43, 100}) {
    for (const std::int64_t batch : {1, 3}) {
      for (const bool isolate : {false, true}) {
        for (const auto& [objective, repeat] : {std::pair{Objective::next_token, false},
                                                {Objective::next_token, true},
                                                {Objective::masked_token, false},
                                                {Objective::masked_token, true}}) {
          const LoaderOptions options = {.window = window,
                                         .batch = batch,
                                         .isolate_records = isolate,
                                         .shuffle = window % 2 == 1,
                                         .seed = 7,
                                         .repeat = repeat,
                                         .objective = objective};
          Loader loader(*store_, options);
          for (int step = 0; step < 4; ++step, loader.advance()) {
            const TokenRun line = naive_line(options, loader.state());
            for (std::int64_t begin = 0; begin <= loader.line_tokens(); begin += 1 + begin / 9) {
              for (std::int64_t end = begin; end <= loader.line_tokens(); end += 1 + end / 9) {
                SCOPED_TRACE(fmt::format("window {} batch {} isolate {} repeat {} step {} [{}, {})",
                                         window, batch, isolate, repeat, step, begin, end));
                expect_equal(loader.read(begin, end), cut(line, begin, end));
                if (HasFailure()) return;
              }
            }
          }
        }
      }
    }
  }
}

TEST_F(LoaderTest, LongRecordsAndManyRecordsAreFoundInEveryShard) {
  std::vector<std::string> records;
  for (int record = 0; record < 20'000; ++record) {
    records.emplace_back(record % 50 == 0 ? 700 : record % 7 + 1,
                         "ACDEFGHIKLMNPQRSTVWY"[record % 20]);
  }
  make_store(records);
  const LoaderOptions options = {.window = 5'000, .batch = 5, .isolate_records = true, .seed = 3};
  Loader loader(*store_, options, {.epoch = 2, .window = 60});
  ASSERT_GT(loader.windows(), 64);
  for (int step = 0; step < 3; ++step, loader.advance()) {
    const TokenRun line = naive_line(options, loader.state());
    for (const std::int64_t parts : {1, 2, 3, 7}) {
      for (std::int64_t part = 0; part < parts; ++part) {
        const auto [begin, end] = part_of(loader.line_tokens(), part, parts);
        expect_equal(loader.read(begin, end), cut(line, begin, end));
      }
    }
  }
}

TEST_F(LoaderTest, AnEpochPredictsEveryTokenOnce) {
  make_store(kRecords);
  for (const bool isolate : {false, true}) {
    LoaderOptions options = {.window = 4, .batch = 3, .isolate_records = isolate, .repeat = false};
    std::vector<std::int64_t> histogram(30);
    std::int64_t counted = 0;
    Loader loader(*store_, options);
    for (; !loader.finished(); loader.advance()) {
      std::int64_t targets = 0;
      for (const std::int32_t target : loader.read(0, loader.line_tokens()).targets) {
        if (target == TokenRun::kNoTarget) continue;
        ++histogram[static_cast<std::size_t>(target)];
        ++targets;
      }
      EXPECT_TRUE(loader.has_targets());
      counted += targets;
    }
    EXPECT_EQ(histogram, store_->histogram(Split::train));
    EXPECT_EQ(counted, store_->tokens(Split::train));
    EXPECT_FALSE(loader.has_targets());
  }
}

TEST_F(LoaderTest, ALineGoesOnInTheNextEpochsOrder) {
  make_store(kRecords);
  const LoaderOptions options = {.window = 4, .batch = 7, .seed = 5};
  Loader loader(*store_, options);
  const std::int64_t windows = loader.windows();
  ASSERT_NE(windows % 7, 0);
  std::vector<std::vector<std::int32_t>> seen;  // the windows of two epochs, as they came
  for (; static_cast<std::int64_t>(seen.size()) < 2 * windows; loader.advance()) {
    const TokenRun line = loader.read(0, loader.line_tokens());
    for (int slot = 0; slot < 7; ++slot) {
      seen.emplace_back(line.targets.begin() + 4 * slot, line.targets.begin() + 4 * slot + 4);
    }
  }
  const std::vector<std::vector<std::int32_t>> first(seen.begin(), seen.begin() + windows);
  const std::vector<std::vector<std::int32_t>> second(seen.begin() + windows,
                                                      seen.begin() + 2 * windows);
  EXPECT_THAT(second, testing::UnorderedElementsAreArray(first));
  EXPECT_NE(second, first);
}

TEST_F(LoaderTest, ItsStateIsAllThatAResumeNeeds) {
  make_store(kRecords);
  const LoaderOptions options = {.window = 3, .batch = 4, .seed = 11};
  Loader loader(*store_, options);
  for (int step = 0; step < 9; ++step) {
    Loader resumed(*store_, options, loader.state());
    loader.advance();
    resumed.advance();
    EXPECT_EQ(resumed.state(), loader.state());
    expect_equal(resumed.read(0, 12), loader.read(0, 12));
  }
  EXPECT_GE(loader.state().epoch, 2);
}

TEST_F(LoaderTest, TheSeedDecidesTheOrder) {
  make_store({std::string(1000, 'A') + std::string(1000, 'C')});
  const auto targets_of = [&](std::uint64_t seed) {
    const LoaderOptions options = {.window = 10, .batch = 50, .seed = seed};
    return Loader(*store_, options).read(0, 500).targets;
  };
  EXPECT_EQ(targets_of(1), targets_of(1));
  EXPECT_NE(targets_of(1), targets_of(2));
}

/// What becomes of the letters of one epoch, by their index in the stream.
struct Masks {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
};

Masks masks_of(const TokenStore& store, const LoaderOptions& options, std::int64_t epoch = 0) {
  Masks masks;
  Loader loader(store, options, {.epoch = epoch, .window = 0});
  for (; loader.state().epoch == epoch; loader.advance()) {
    const TokenRun line = loader.read(0, loader.line_tokens());
    masks.tokens.insert(masks.tokens.end(), line.tokens.begin(), line.tokens.end());
    masks.targets.insert(masks.targets.end(), line.targets.begin(), line.targets.end());
  }
  const auto size = static_cast<std::size_t>(store.tokens(options.split));
  masks.tokens.resize(size);
  masks.targets.resize(size);
  return masks;
}

TEST_F(LoaderTest, MasksTheShareOfLettersThatWasPromisedAndTellsWhatTheyWere) {
  make_store(std::vector<std::string>(100, std::string(1000, 'A') + std::string(1000, 'Y')));
  const LoaderOptions options = {
      .window = 4096, .shuffle = false, .seed = 3, .objective = Objective::masked_token};
  const Masks masks = masks_of(*store_, options);
  const std::vector<std::int32_t> stream =
      store_->read(Split::train, 0, store_->tokens(Split::train));
  double letters = 0, masked = 0, hidden = 0, kept = 0, replaced = 0;
  std::vector<double> replacements(26);
  for (std::size_t i = 0; i < stream.size(); ++i) {
    letters += stream[i] < 26;
    if (masks.targets[i] == TokenRun::kNoTarget) {
      ASSERT_EQ(masks.tokens[i], stream[i]) << "hidden, and not to be predicted";
      continue;
    }
    ASSERT_EQ(masks.targets[i], stream[i]);
    ASSERT_LT(stream[i], 26) << "no letter";
    ++masked;
    hidden += masks.tokens[i] == vocabulary_.mask();
    kept += masks.tokens[i] == stream[i];
    if (masks.tokens[i] == vocabulary_.mask() || masks.tokens[i] == stream[i]) continue;
    ++replaced;
    ASSERT_LT(masks.tokens[i], 26);
    ++replacements[static_cast<std::size_t>(masks.tokens[i])];
  }
  const auto expect_share = [](double count, double total, double share, const char* what) {
    EXPECT_NEAR(count / total, share, 4 * std::sqrt(share * (1 - share) / total)) << what;
  };
  EXPECT_EQ(letters, 200'000);
  expect_share(masked, letters, 0.15, "masked");
  expect_share(hidden, masked, 0.8, "hidden");
  expect_share(replaced, masked, 0.1 * 25 / 26, "replaced by another letter");
  expect_share(kept, masked, 0.1 + 0.1 / 26, "kept, or replaced by itself");
  for (std::size_t letter = 1; letter < 24; ++letter) {  // A and Y are 0 and 19
    if (letter != 19) expect_share(replacements[letter], replaced, 1 / 25.0, "one letter");
  }
}

TEST_F(LoaderTest, MasksDependOnSeedEpochAndPlaceAlone) {
  make_store({std::string(3000, 'A'), std::string(2001, 'C')});
  LoaderOptions options = {
      .window = 70, .shuffle = false, .seed = 3, .objective = Objective::masked_token};
  const Masks masks = masks_of(*store_, options);
  for (const std::int64_t window : {1, 43, 512, 6000}) {
    for (const std::int64_t batch : {1, 4}) {
      options.window = window;
      options.batch = batch;
      options.isolate_records = batch == 4;
      const Masks other = masks_of(*store_, options);
      EXPECT_EQ(other.tokens, masks.tokens) << window << " " << batch;
      EXPECT_EQ(other.targets, masks.targets) << window << " " << batch;
    }
  }
  EXPECT_NE(masks_of(*store_, options, 1).targets, masks.targets) << "every epoch has its own";
  options.seed = 4;
  EXPECT_NE(masks_of(*store_, options).targets, masks.targets);
}

TEST_F(LoaderTest, AMaskedRecordIsADocumentWithItsEnd) {
  make_store({"AC", "D", "E"});  // the stream: A C end D end E end
  const LoaderOptions options = {.window = 5,
                                 .batch = 2,
                                 .isolate_records = true,
                                 .shuffle = false,
                                 .objective = Objective::masked_token};
  const TokenRun run = Loader(*store_, options).read(0, 10);
  const std::int32_t end = 28, pad = 26;
  for (const std::size_t place : {2, 4, 6}) EXPECT_EQ(run.tokens[place], end);
  for (const std::size_t place : {7, 8, 9}) EXPECT_EQ(run.tokens[place], pad);
  for (const std::size_t place : {2, 4, 6, 7, 8, 9}) EXPECT_EQ(run.targets[place], -1);
  EXPECT_THAT(run.positions, ElementsAre(0, 1, 2, 0, 1, 0, 1, 0, 1, 2));
  EXPECT_THAT(run.document_starts, ElementsAre(0, 3, 5, 7));
}

TEST_F(LoaderTest, KnowsALineWithoutTargets) {
  make_store(kRecords);
  for (const std::int64_t window : {1, 3, 2000}) {
    const LoaderOptions options = {
        .window = window, .batch = 2, .seed = 5, .objective = Objective::masked_token};
    Loader loader(*store_, options);
    int lines_without = 0;
    for (int line = 0; line < 200; ++line, loader.advance()) {
      const TokenRun run = loader.read(0, loader.line_tokens());
      const bool has_targets = std::any_of(run.targets.begin(), run.targets.end(),
                                           [](std::int32_t target) { return target >= 0; });
      EXPECT_EQ(loader.has_targets(), has_targets);
      lines_without += !has_targets;
    }
    EXPECT_GE(lines_without, window < 2000 ? 20 : 0) << window;
  }
}

TEST_F(LoaderTest, RefusesToMaskWhereThereAreNoLetters) {
  make_store({"", ""});
  EXPECT_NO_THROW(Loader(*store_, {}));
  EXPECT_THAT(
      message_of(ErrorKind::data, [&] { Loader(*store_, {.objective = Objective::masked_token}); }),
      HasSubstr("the split 'train' has no letters, only letters are masked"));
}

TEST_F(LoaderTest, RefusesWrongOptionsAndEmptySplits) {
  make_store({"AC"});
  const auto refusal = [&](ErrorKind kind, const LoaderOptions& options, LoaderState state = {}) {
    return message_of(kind, [&] { Loader(*store_, options, state); });
  };
  EXPECT_THAT(refusal(ErrorKind::usage, {.window = 0}),
              HasSubstr("the window is 0, it must be at least 1"));
  EXPECT_THAT(refusal(ErrorKind::usage, {.batch = -1}), HasSubstr("the batch is -1"));
  EXPECT_THAT(refusal(ErrorKind::data, {.split = Split::test}),
              AllOf(HasSubstr("store.h5"), HasSubstr("the split 'test' is empty")));
  EXPECT_THAT(refusal(ErrorKind::data, {}, {.epoch = 0, .window = 1}),
              HasSubstr("window 1 of epoch 0 does not exist, an epoch has 1 windows"));
  const Loader loader(*store_, {});
  EXPECT_THAT(message_of(ErrorKind::internal, [&] { loader.read(0, 4097); }),
              HasSubstr("Loader::read"));
  EXPECT_THAT(loader.read(7, 7).tokens, IsEmpty());
}

TEST(KeyedPermutation, IsAPermutationOfAnyCount) {
  for (const std::int64_t count : {1, 2, 3, 4, 5, 16, 17, 100, 1024, 1025, 40'000}) {
    const KeyedPermutation order(count, {1, RandomPurpose::shuffle, 0});
    std::vector<bool> seen(static_cast<std::size_t>(count));
    for (std::int64_t index = 0; index < count; ++index) {
      const std::int64_t entry = order.at(index);
      ASSERT_GE(entry, 0);
      ASSERT_LT(entry, count);
      ASSERT_FALSE(seen[static_cast<std::size_t>(entry)]);
      seen[static_cast<std::size_t>(entry)] = true;
    }
  }
}

TEST(KeyedPermutation, TakesEveryOrderOfThreeAboutEquallyOften) {
  std::vector<int> counts(9);
  constexpr int kEpochs = 6000;
  for (std::uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const KeyedPermutation order(3, {1, RandomPurpose::shuffle, epoch});
    ++counts[static_cast<std::size_t>(3 * order.at(0) + order.at(1))];
  }
  for (const int order : {1, 2, 3, 5, 6, 7}) EXPECT_NEAR(counts[order], kEpochs / 6, 150) << order;
}

TEST(KeyedPermutation, TakesCountsBeyondThirtyTwoBits) {
  const std::int64_t count = (std::int64_t{1} << 40) + 1;
  const KeyedPermutation order(count, {1, RandomPurpose::shuffle, 0});
  std::set<std::int64_t> entries;
  for (std::int64_t index = 0; index < 1000; ++index) entries.insert(order.at(count - 1 - index));
  EXPECT_EQ(entries.size(), 1000u);
  EXPECT_GE(*entries.begin(), 0);
  EXPECT_LT(*entries.rbegin(), count);
  EXPECT_GT(*entries.rbegin(), count / 2);
}

TEST(PartOf, CutsEvenlyAndWithoutGaps) {
  for (const std::int64_t count : {0, 1, 5, 12, 1000}) {
    for (const std::int64_t parts : {1, 2, 3, 7}) {
      std::int64_t at = 0;
      for (std::int64_t part = 0; part < parts; ++part) {
        const auto [begin, end] = part_of(count, part, parts);
        EXPECT_EQ(begin, at);
        EXPECT_GE(end - begin, count / parts);
        EXPECT_LE(end - begin, count / parts + 1);
        at = end;
      }
      EXPECT_EQ(at, count);
    }
  }
}

}  // namespace
}  // namespace longscan

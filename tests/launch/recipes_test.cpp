// The example configurations fit the program, the copy task is what it says, and the recipes'
// script trains once, tells what it has measured, and refuses what it does not know.
#include <cmath>
#include <set>
#include <tuple>

#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class RecipesTest : public ProgramTest {
 protected:
  // The shell starts in the test's folder; the script goes to where it lies.
  Outcome recipe(const std::string& arguments) {
    return shell("LONGSCAN=" + program() + " '" LONGSCAN_SOURCE_DIR "/launch/recipes.sh' " +
                 arguments + " --folder recipes --threads 1");
  }

  /// Where the script has kept the runs of some data.
  std::filesystem::path runs_of(const std::string& data, const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "recipes")) {
      const std::string folder = entry.path().filename().string();
      if (entry.is_directory() && folder.starts_with(data + "-")) return entry.path() / name;
    }
    ADD_FAILURE() << "there are no runs of " << data;
    return {};
  }

  std::string copy_task(const std::string& arguments) {
    const Outcome outcome = shell(
        "/usr/bin/python3 '" LONGSCAN_SOURCE_DIR "/launch/recipes/copy_task.py' " + arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.errors;
    return outcome.output;
  }

  /// The sequences of the copy task's records.
  std::vector<std::string> copies(const std::string& options) {
    std::istringstream fasta(copy_task("make " + options));
    std::vector<std::string> sequences;
    for (std::string line; std::getline(fasta, line);) {
      if (!line.starts_with(">")) sequences.push_back(line);
    }
    return sequences;
  }
};

/// The w of "Y w Y w Y...".
std::string word_of(const std::string& sequence) {
  return sequence.substr(1, sequence.find('Y', 1) - 1);
}

using Row = std::vector<std::string>;

/// What the table says of each run, without the unigram baseline.
std::vector<Row> rows_of(const std::string& told) {
  std::vector<Row> rows;
  std::istringstream lines(told.substr(told.find("|---|")));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("| ")) {
    Row row;
    for (std::size_t begin = 2, end = 0; begin < line.size(); begin = end + 3) {
      end = line.find(" |", begin);
      row.push_back(line.substr(begin, end - begin));
    }
    if (row[0] != "unigram baseline") rows.push_back(row);
  }
  return rows;
}

TEST_F(RecipesTest, every_example_configuration_fits_the_program) {
  make_corpus();
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(LONGSCAN_SOURCE_DIR "/launch/configs")) {
    const std::string told = succeed("train --config '" + entry.path().string() +
                                     "' --data store.h5 --dry-run --threads 1");
    EXPECT_THAT(told, AllOf(HasSubstr("parameters"), HasSubstr("steps an epoch")));
    ++count;
  }
  EXPECT_GE(count, 10);
}

TEST_F(RecipesTest, the_copy_task_s_records_say_everything_twice) {
  const std::vector<std::string> sequences = copies("--shortest=1 --records=1000 --seed=3");
  ASSERT_EQ(sequences.size(), 1000U);
  std::set<std::size_t> lengths;
  std::set<char> symbols;
  for (const std::string& sequence : sequences) {
    ASSERT_EQ(sequence.size(), 127U);
    const std::string word = word_of(sequence);
    ASSERT_GE(word.size(), 1U);
    EXPECT_EQ(sequence.substr(1 + word.size(), 1 + word.size()), 'Y' + word);
    EXPECT_EQ(sequence.find_first_not_of('Y', 2 + 2 * word.size()), std::string::npos);
    lengths.insert(word.size());
    symbols.insert(word.begin(), word.end());
  }
  EXPECT_EQ(*lengths.begin(), 1U);
  EXPECT_EQ(*lengths.rbegin(), 62U);
  EXPECT_EQ(lengths.size(), 62U);
  EXPECT_EQ(symbols.size(), 10U);
  EXPECT_FALSE(symbols.contains('Y'));
  EXPECT_EQ(copies("--shortest=1 --records=1000 --seed=3"), sequences);
  EXPECT_NE(copies("--shortest=1 --records=1000 --seed=4"), sequences);
  EXPECT_EQ(copy_task("prompts --shortest=1 --records=1 --seed=3"),
            sequences[0].substr(0, 2 + word_of(sequences[0]).size()) + '\n');
}

TEST_F(RecipesTest, the_copy_task_s_best_loss_is_that_of_who_knows_the_task) {
  // Who knows it predicts the first w symbol by symbol, each time with the chance that it ends
  // here, and all the rest without doubt.
  constexpr std::size_t kLongest = 62;
  constexpr int kRecords = 5000;
  for (const std::size_t shortest : {1UL, 40UL, kLongest}) {
    double loss = 0;
    double right = 0;
    const std::string option = " --shortest=" + std::to_string(shortest);
    for (const std::string& sequence : copies("--records=" + std::to_string(kRecords) + option)) {
      const std::string word = word_of(sequence);
      right += 128.0 - static_cast<double>(word.size()) - 1;
      for (std::size_t place = 0; place <= word.size(); ++place) {
        const double ends = place < shortest ? 0 : 1 / static_cast<double>(kLongest - place + 1);
        const double symbol = (1 - ends) / 10;
        const bool is_end = place == word.size();
        loss -= std::log(is_end ? ends : symbol);
        const bool guesses_end = ends > symbol;
        right += guesses_end ? is_end : !is_end && word[place] == 'A';
      }
    }
    const std::string told = copy_task("best" + option);
    EXPECT_NEAR(number_behind(told, "loss "), loss / (128 * kRecords), 0.02);
    EXPECT_NEAR(number_behind(told, "accuracy "), 100 * right / (128 * kRecords), 0.6);
    EXPECT_NEAR(number_behind(told, "perplexity "), std::exp(number_behind(told, "loss ")), 1e-3);
  }
}

TEST_F(RecipesTest, counts_what_was_copied) {
  // All of two, one of two, three of four (one of them wrong), none of two where nothing follows.
  write_text(folder_ / "said.fasta", ">1\nYACY\nACYY\n>2\nYACYAAYY\n>3\nYACDEYACCEY\n");
  write_text(folder_ / "silent.fasta", ">1\nYACY\n");
  EXPECT_EQ(copy_task("check said.fasta"), "75.00\n");
  EXPECT_EQ(copy_task("check said.fasta silent.fasta"), "60.00\n");
}

TEST_F(RecipesTest, are_trained_once_and_told_as_a_table) {
  write_text(folder_ / "sample.fasta", sample_fasta(200));
  const std::string arguments = "proteins --data sample.fasta --steps 3 --kinds 'identity elu1'";
  const Outcome first = recipe(arguments);
  ASSERT_EQ(first.code, 0) << first.errors << first.output;
  const std::string row = " \\| 3 \\| [0-9.]+ \\| [0-9.]+ \\| [0-9.]+ % \\| [0-9]+ \\|\n";
  EXPECT_THAT(first.output,
              AllOf(HasSubstr("saved"), ContainsRegex("\n\\| identity" + row),
                    ContainsRegex("\n\\| elu1" + row), HasSubstr("| unigram baseline | |")));
  const std::filesystem::path runs = runs_of("sample", "proteins-3-steps-1-ranks");
  EXPECT_EQ(metric(runs / "elu1", "step").back(), 3);

  const Outcome second = recipe(arguments);
  EXPECT_EQ(second.code, 0) << second.errors;
  EXPECT_THAT(second.output, Not(HasSubstr("saved")));
  EXPECT_EQ(second.output, first.output.substr(first.output.find("\n== proteins: ")));

  // The table would mix two recipes.
  write_text(runs / "recipe.textproto", "# another one\n" + contents_of(runs / "recipe.textproto"));
  const Outcome changed = recipe(arguments);
  EXPECT_EQ(changed.code, 64);
  EXPECT_THAT(changed.errors, AllOf(HasSubstr("launch/configs/proteins.textproto has changed"),
                                    HasSubstr("remove that folder")));
}

TEST_F(RecipesTest, switch_tells_what_softmax_s_parameters_are_worth_before_and_after_learning) {
  write_text(folder_ / "sample.fasta", sample_fasta(200));
  const Outcome told = recipe("switch --data sample.fasta --steps 1");
  ASSERT_EQ(told.code, 0) << told.errors << told.output;
  EXPECT_THAT(told.output, ContainsRegex("parameters kept from .*/softmax/step-00000001.h5"));
  const std::filesystem::path runs = runs_of("sample", "switch-1-steps-1-ranks");
  const std::vector<double> switched = metric(runs / "switched", "validation_loss");
  ASSERT_EQ(switched.size(), 2U);
  EXPECT_EQ(metric(runs / "switched", "step").at(0), 0);
  const auto loss_of = [&](const char* run) {
    return metric(runs / run, "validation_loss").back();
  };
  const std::vector<std::tuple<std::string, std::string, double>> expected{
      {"softmax", "1", loss_of("softmax")},
      {"favor_softmax, right after the switch", "0", switched[0]},
      {"favor_softmax, switched and fine-tuned", "1", switched[1]},
      {"favor_softmax from scratch", "1", loss_of("scratch")},
      {"favor_softmax from scratch", "2", loss_of("scratch-longer")}};
  const std::vector<Row> rows = rows_of(told.output);
  ASSERT_EQ(rows.size(), expected.size()) << told.output;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto& [name, steps, loss] = expected[i];
    ASSERT_EQ(rows[i].size(), 6U);
    EXPECT_EQ(rows[i][0], name);
    EXPECT_EQ(rows[i][1], steps);
    EXPECT_NEAR(std::stod(rows[i][2]), loss, 1e-4) << name;
    EXPECT_NEAR(std::stod(rows[i][3]), std::exp(loss), 2e-3) << name;
    EXPECT_THAT(rows[i][4], ContainsRegex("^[0-9.]+ %$"));
  }
}

TEST_F(RecipesTest, books_are_told_by_the_byte_and_by_the_word) {
  std::string book;
  for (int i = 0; i < 200; ++i) book += "Call me what you will, said the whale.\n";  // 8 words
  write_text(folder_ / "pg/train/1.txt", book);
  write_text(folder_ / "pg/validation/2.txt", book);
  write_text(folder_ / "pg/metadata.csv", "1,A,1851,http://a.b\n2,B,1851,http://a.b\n");
  const Outcome told = recipe("books --data pg --kinds elu1 --steps 1");
  ASSERT_EQ(told.code, 0) << told.errors << told.output;
  const std::vector<Row> rows = rows_of(told.output);
  ASSERT_EQ(rows.size(), 1U) << told.output;
  ASSERT_EQ(rows[0].size(), 8U);
  EXPECT_EQ(rows[0][0], "elu1");
  // The bytes of the book, and its end.
  const double nats = std::stod(rows[0][2]) * static_cast<double>(book.size() + 1);
  EXPECT_NEAR(std::stod(rows[0][6]), nats / static_cast<double>(book.size()) / std::log(2), 2e-4);
  EXPECT_NEAR(std::log(std::stod(rows[0][7])), nats / (200 * 8), 1e-3);
}

TEST_F(RecipesTest, what_is_not_known_or_not_there_is_refused) {
  for (const auto& [arguments, code, message] :
       {std::tuple{"protein", 64, "there is no recipe 'protein'"},
        {"proteins --kinds linformer", 64, "proteins has no kind 'linformer', only: identity"},
        {"concatenated --kinds 'elu1 softmax'", 64, "concatenated has no kind 'softmax'"},
        {"switch --kinds softmax", 64, "without --kinds"},
        {"proteins --kinds ' '", 64, "--kinds needs a kind"},
        {"proteins --steps many", 64, "--steps needs a number, not 'many'"},
        {"proteins --steps=0", 64, "--steps needs at least 1"},
        {"proteins --ranks", 64, "--ranks needs a"},
        {"proteins --step 3", 64, "'--step' is not known here"},
        {"copy --data nothing", 64, "copy makes its own data"},
        {"proteins --data nothing.fasta", 66, "nothing.fasta is missing"},
        {"books", 66, "books needs --data"}}) {
    const Outcome outcome = recipe(arguments);
    EXPECT_EQ(outcome.code, code) << arguments;
    EXPECT_THAT(outcome.errors, HasSubstr(message)) << arguments;
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "recipes"));
}

}  // namespace
}  // namespace longscan::test

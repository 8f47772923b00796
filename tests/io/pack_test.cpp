// From FASTA files and texts to token stores.
#include "io/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "io/token_store.h"
#include "tests/support/input_files.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using testing::UnorderedElementsAreArray;

class Pack : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& bytes) {
    return write_input(folder_ / name, bytes);
  }
  PackOptions options(std::vector<std::string> inputs) const {
    PackOptions options;
    options.inputs = std::move(inputs);
    options.output = output_;
    return options;
  }
  std::string text_of(Split split) const {
    const TokenStore store(output_);
    return store.vocabulary().decode(store.read(split, 0, store.tokens(split)));
  }
  /// Records with identifiers and letters that all differ.
  static std::vector<std::string> many_records(int count) {
    std::vector<std::string> records;
    for (int record = 0; record < count; ++record) {
      std::string letters;
      for (int rest = record + 1; rest > 0; rest /= 20)
        letters += "ACDEFGHIKLMNPQRSTVWY"[rest % 20];
      records.push_back(">r" + std::to_string(record) + "\n" + letters + "\n");
    }
    return records;
  }
  static std::string joined(const std::vector<std::string>& records) {
    std::string bytes;
    for (const std::string& record : records) bytes += record;
    return bytes;
  }

  TemporaryFolder folder_;
  std::filesystem::path output_ = folder_ / "out.h5";
};

TEST_F(Pack, WritesEachRecordWithItsEndAndReportsWhatItChanged) {
  PackOptions wanted = options({file("in.fasta", ">one d\nacD*\n>two\n>one\nM-L\n")});
  wanted.validation_fraction = 0;
  wanted.unknown = Unknown::map;
  const PackReport report = pack(wanted);
  EXPECT_EQ(text_of(Split::train), "ACD<end>MXL<end>");
  EXPECT_EQ(report.vocabulary, "protein");
  EXPECT_EQ(report.reading.records, 2);
  EXPECT_EQ(report.reading.letters, 6);
  EXPECT_EQ(report.reading.lower_case, 2);
  EXPECT_EQ(report.reading.mapped, 1);
  EXPECT_EQ(report.reading.stops, 1);
  EXPECT_EQ(report.reading.empty, 1);
  EXPECT_EQ(report.reading.duplicates, 1);
  EXPECT_EQ(report.reading.notices.size(), 3u);
  EXPECT_EQ(report.parts[0].records, 2);
  EXPECT_EQ(report.parts[0].tokens, 8);
  EXPECT_EQ(report.parts[1].tokens, 0);
  EXPECT_TRUE(std::isnan(report.parts[1].unigram_perplexity));
  const TokenStore store(output_);
  EXPECT_EQ(report.content_hash, store.content_hash());
  EXPECT_EQ(report.parts[0].unigram_perplexity, unigram_perplexity(store, Split::train));
  EXPECT_THAT(store.identifiers(Split::train), ElementsAre("one", "one"));
  EXPECT_THAT(store.titles(Split::train), ElementsAre("d", ""));
  EXPECT_EQ(store.report().notices, report.reading.notices);
}

TEST_F(Pack, DrawsTheFractionOfRecordsThatIsAskedFor) {
  PackOptions wanted = options({file("in.fasta", joined(many_records(4000)))});
  wanted.validation_fraction = 0.25;
  const PackReport report = pack(wanted);
  EXPECT_EQ(report.parts[0].records + report.parts[1].records, 4000);
  EXPECT_NEAR(report.parts[1].records, 1000, 4 * std::sqrt(4000 * 0.25 * 0.75));
  EXPECT_EQ(report.parts[2].records, 0);
}

TEST_F(Pack, ARecordsSplitDependsOnNothingButItself) {
  std::vector<std::string> records = many_records(1000);
  PackOptions wanted = options({file("in.fasta", joined(records))});
  wanted.validation_fraction = 0.1;
  pack(wanted);
  const std::vector<std::string> before = TokenStore(output_).identifiers(Split::validation);
  std::reverse(records.begin(), records.end());
  records.push_back(">another\nMKV\n");
  wanted.inputs = {file("gzip", gzip_member(joined(records)))};
  pack(wanted);
  std::vector<std::string> after = TokenStore(output_).identifiers(Split::validation);
  std::erase(after, "another");
  EXPECT_THAT(after, UnorderedElementsAreArray(before));
  EXPECT_GT(before.size(), 50u);
}

TEST_F(Pack, BothIdentifierAndLettersDecideARecordsSplit) {
  const auto drawn = [&](const std::string& bytes) {
    PackOptions wanted = options({file("in.fasta", bytes)});
    wanted.validation_fraction = 0.5;
    return pack(wanted).parts[1].records;
  };
  std::string same_letters;
  std::string same_identifier;
  for (int record = 0; record < 200; ++record) {
    same_letters += ">r" + std::to_string(record) + "\nMKV\n";
    same_identifier += ">r\n" + std::string(static_cast<std::size_t>(record) + 1, 'A') + "\n";
  }
  EXPECT_NEAR(drawn(same_letters), 100, 30);
  EXPECT_NEAR(drawn(same_identifier), 100, 30);
}

TEST_F(Pack, TheSameInputGivesTheSameHash) {
  const std::vector<std::string> records = many_records(100);
  const std::string input = file("in.fasta", joined(records));
  const std::string hash = pack(options({input})).content_hash;
  EXPECT_EQ(pack(options({input})).content_hash, hash);
  EXPECT_NE(pack(options({file("in.fasta", joined(records) + ">x\nA\n")})).content_hash, hash);
}

TEST_F(Pack, ASingleTextGivesItsLastPartToValidation) {
  PackOptions wanted = options({file("book.txt", "0123456789")});
  wanted.validation_fraction = 0.2;
  const PackReport report = pack(wanted);
  EXPECT_EQ(report.vocabulary, "bytes");
  EXPECT_EQ(text_of(Split::train), "01234567<end>");
  EXPECT_EQ(text_of(Split::validation), "89<end>");
  EXPECT_EQ(report.reading.files, 1);
  EXPECT_EQ(report.reading.letters, 10);
  EXPECT_THAT(TokenStore(output_).identifiers(Split::validation), ElementsAre("book"));
}

TEST_F(Pack, ASingleTextIsCutBetweenCharacters) {
  PackOptions wanted = options({file("book.txt", "1234567\xe2\x82\xac")});
  wanted.validation_fraction = 0.3;
  pack(wanted);
  EXPECT_EQ(text_of(Split::train), "1234567<end>");
  EXPECT_EQ(text_of(Split::validation), "\xe2\x82\xac<end>");
  wanted.validation_fraction = 0.2;  // would cut within the character
  pack(wanted);
  EXPECT_EQ(text_of(Split::train), "1234567\xe2\x82\xac<end>");
  EXPECT_EQ(text_of(Split::validation), "");
}

TEST_F(Pack, ALongTextIsCutWhereverItsPiecesEnd) {
  std::string text;
  for (int line = 0; line < 100'000; ++line) text += std::to_string(line) + "\n";
  PackOptions wanted = options({file("book.txt", text)});
  wanted.validation_fraction = 0.5;
  pack(wanted);
  const std::size_t cut = text.size() - text.size() / 2;
  EXPECT_EQ(text_of(Split::train), text.substr(0, cut) + "<end>");
  EXPECT_EQ(text_of(Split::validation), text.substr(cut) + "<end>");
}

TEST_F(Pack, AFolderBringsItsOwnSplits) {
  file("pg19/train/1.txt", "one");
  file("pg19/train/2.txt", "");
  file("pg19/train/3.txt", "three");
  file("pg19/validation/4.txt", "four");
  file("pg19/metadata.csv", "3,Three,1900,x\n");
  const PackReport report = pack(options({(folder_ / "pg19").string()}));
  EXPECT_EQ(text_of(Split::train), "one<end>three<end>");
  EXPECT_EQ(text_of(Split::validation), "four<end>");
  EXPECT_EQ(text_of(Split::test), "");
  EXPECT_THAT(TokenStore(output_).titles(Split::train), ElementsAre("", "Three"));
  EXPECT_EQ(report.reading.files, 4);
  EXPECT_EQ(report.reading.records, 3);
  EXPECT_EQ(report.reading.empty, 1);
  EXPECT_THAT(report.reading.notices, ElementsAre(HasSubstr("2.txt: the text is empty")));
}

TEST_F(Pack, LeavesNothingBehindWhenTheInputIsBad) {
  EXPECT_THAT(
      message_of(ErrorKind::data, [&] { pack(options({file("in.fasta", ">a\nAC\nA1\n")})); }),
      HasSubstr("in.fasta:3:2: letter '1' is no amino acid"));
  EXPECT_THAT(message_of(ErrorKind::data, [&] { pack(options({file("in.txt", "ab\xff")})); }),
              HasSubstr("in.txt:1:3: what stands at byte 2 is not UTF-8"));
  EXPECT_FALSE(std::filesystem::exists(output_));
  EXPECT_FALSE(std::filesystem::exists(output_.string() + ".partial"));
}

TEST_F(Pack, RefusesInputWithNothingToTrainOn) {
  for (const char* name : {"empty.fasta", "empty.txt"}) {
    const std::string input = file(name, "");
    EXPECT_EQ(message_of(ErrorKind::data, [&] { pack(options({input})); }),
              input + ": there is nothing to train on, the input has no record with a letter");
  }
  PackOptions wanted = options({file("in.fasta", ">a\nAC\n")});
  wanted.validation_fraction = 0.999999;
  EXPECT_THAT(message_of(ErrorKind::data, [&] { pack(wanted); }),
              AllOf(HasSubstr("every record was drawn for validation"),
                    HasSubstr("--validation-fraction=0")));
}

TEST_F(Pack, RefusesWrongOptions) {
  const auto refusal = [](const PackOptions& wrong) {
    return message_of(ErrorKind::usage, [&] { pack(wrong); });
  };
  const std::string input = file("in.fasta", ">a\nAC\n");
  EXPECT_THAT(refusal(options({})), HasSubstr("there is nothing to pack"));
  PackOptions wrong = options({input});
  wrong.validation_fraction = 1;
  EXPECT_THAT(refusal(wrong), HasSubstr("the validation fraction is out of range"));
  wrong.validation_fraction = std::nan("");
  EXPECT_THAT(refusal(wrong), HasSubstr("the validation fraction is out of range"));
  wrong = options({input});
  wrong.output.clear();
  EXPECT_THAT(refusal(wrong), HasSubstr("the token store has no name"));
  wrong = options({"-"});
  wrong.format = InputFormat::text;
  EXPECT_THAT(refusal(wrong), HasSubstr("a text cannot come from standard input"));
  EXPECT_THAT(refusal(options({"a.txt", "b.txt"})), HasSubstr("there are several inputs"));
}

}  // namespace
}  // namespace longscan

// Good and bad FASTA files, and what is said about the bad ones.
#include "io/fasta.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/input_files.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct Records {
  std::vector<std::string> lines;  ///< "identifier|description|letters"
  ReadReport report;
};

Records read_paths(const std::vector<std::string>& paths, Unknown unknown = Unknown::error) {
  FastaReader reader(paths, unknown);
  Records records;
  while (reader.next_record()) {
    std::string line = reader.header().identifier + "|" + reader.header().description + "|";
    for (auto letters = reader.read(); !letters.empty(); letters = reader.read()) line += letters;
    records.lines.push_back(line);
  }
  records.report = reader.report();
  return records;
}

class Fasta : public testing::Test {
 protected:
  std::string file(const std::string& bytes, const std::string& name = "in.fasta") {
    return write_input(folder_ / name, bytes);
  }
  Records read(const std::string& bytes, Unknown unknown = Unknown::error) {
    return read_paths({file(bytes)}, unknown);
  }
  /// The message of the error that these bytes bring, without the folder.
  std::string refusal(const std::string& bytes, ErrorKind kind = ErrorKind::data) {
    const std::string message = message_of(kind, [&] { read(bytes); });
    const std::string folder = folder_.path().string() + "/";
    return message.starts_with(folder) ? message.substr(folder.size()) : message;
  }

  TemporaryFolder folder_;
};

TEST_F(Fasta, ReadsHeadersAndWrappedLines) {
  const Records records = read(">one first protein\nACDE\nFG\n\n>two\t x y\nMK\nL");
  EXPECT_THAT(records.lines, ElementsAre("one|first protein|ACDEFG", "two|x y|MKL"));
  EXPECT_EQ(records.report.files, 1);
  EXPECT_EQ(records.report.records, 2);
  EXPECT_EQ(records.report.letters, 9);
  EXPECT_THAT(records.report.notices, ElementsAre());
}

TEST_F(Fasta, AmbiguousLettersAreLettersOfTheirOwn) {
  EXPECT_THAT(read(">a\nBJOUXZ\n").lines, ElementsAre("a||BJOUXZ"));
}

TEST_F(Fasta, TakesCrlfLineEndings) {
  const Records records = read("\r\n>one d\r\nAC\r\nDE\r\n>two\r\nMK\r");
  EXPECT_THAT(records.lines, ElementsAre("one|d|ACDE", "two||MK"));
  EXPECT_EQ(records.report.mapped, 0);
}

TEST_F(Fasta, CountsLowerCaseAndBlanks) {
  const Records records = read(">one\nAcd e\t\n");
  EXPECT_THAT(records.lines, ElementsAre("one||ACDE"));
  EXPECT_EQ(records.report.lower_case, 3);
  EXPECT_EQ(records.report.blanks, 2);
}

TEST_F(Fasta, DropsAndCountsAStopAtTheEndOfARecord) {
  const Records records = read(">one\nACD*\n>two\nMK\n*\n\n>three\nAC\n");
  EXPECT_THAT(records.lines, ElementsAre("one||ACD", "two||MK", "three||AC"));
  EXPECT_EQ(records.report.stops, 2);
  EXPECT_EQ(records.report.letters, 7);
}

TEST_F(Fasta, RefusesAStopInsideARecord) {
  EXPECT_EQ(refusal(">one\nAC*\nDE\n"),
            "in.fasta:2:3: letter '*' is no amino acid, a stop may only be the last letter of a "
            "record, --unknown=map reads such letters as X and counts them");
  EXPECT_THAT(refusal(">one\nAC**\n"), StartsWith("in.fasta:2:3: letter '*'"));
}

TEST_F(Fasta, CountsAndNamesEmptyRecords) {
  const Records records = read(">one\n>two\nAC\n>three\n\n>four\n*\n");
  EXPECT_THAT(records.lines, ElementsAre("one||", "two||AC", "three||", "four||"));
  EXPECT_EQ(records.report.records, 1);
  EXPECT_EQ(records.report.empty, 3);
  EXPECT_THAT(
      records.report.notices,
      ElementsAre(EndsWith("in.fasta:1: record 'one' has no letters and is left out"),
                  HasSubstr("in.fasta:4: record 'three'"), HasSubstr("in.fasta:6: record 'four'")));
}

TEST_F(Fasta, RefusesLettersBeforeTheFirstHeader) {
  EXPECT_EQ(refusal("\n ACDE\n>one\nAC\n"),
            "in.fasta:2:2: letter 'A' stands before the first header, a FASTA file begins with '>' "
            "and an identifier, see whether this is a FASTA file and whether its beginning is "
            "missing");
  EXPECT_THAT(refusal("\xef\xbb\xbf>one\nAC\n"), StartsWith("in.fasta:1:1: byte 0xEF stands"));
  EXPECT_THAT(refusal(" >one\nAC\n"), StartsWith("in.fasta:1:2: letter '>' stands"));
}

TEST_F(Fasta, KeepsDuplicateIdentifiersAndNamesThem) {
  const Records records = read(">one x\nAC\n>two\nDE\n>one y\nAC\n");
  EXPECT_THAT(records.lines, ElementsAre("one|x|AC", "two||DE", "one|y|AC"));
  EXPECT_EQ(records.report.duplicates, 1);
  EXPECT_THAT(records.report.notices,
              ElementsAre(EndsWith(
                  "in.fasta:5: identifier 'one' was there before; both records are kept")));
}

TEST_F(Fasta, NoticesAreFewHoweverManyThereAre) {
  std::string bytes;
  for (int record = 0; record < 100; ++record) bytes += ">same\nAC\n";
  const Records records = read(bytes);
  EXPECT_EQ(records.report.duplicates, 99);
  EXPECT_EQ(records.report.notices.size(), 5u);
}

TEST_F(Fasta, RefusesUnknownLettersWithTheirPlace) {
  EXPECT_EQ(refusal(">one\nACDE\nAC4D\n"),
            "in.fasta:3:3: letter '4' is no amino acid, the letters of proteins are A to Z, "
            "--unknown=map reads such letters as X and counts them");
  EXPECT_THAT(refusal(">one\nAC-D\n"),
              StartsWith("in.fasta:2:3: letter '-' is no amino acid, gaps of an alignment are no"));
  EXPECT_THAT(refusal(">one\r\nAC.D\r\n"), StartsWith("in.fasta:2:3: letter '.'"));
  EXPECT_THAT(refusal(">one\nAC\n>two\nA>C\n"), StartsWith("in.fasta:4:2: letter '>'"));
  EXPECT_THAT(refusal(">one\nA\xc3\xa4\n"), StartsWith("in.fasta:2:2: byte 0xC3"));
  EXPECT_THAT(refusal(">one\nAC\rDE\n"), StartsWith("in.fasta:2:3: byte 0x0D"));
  EXPECT_THAT(refusal(std::string(">one\nA\0C\n", 9)), StartsWith("in.fasta:2:2: byte 0x00"));
}

TEST_F(Fasta, MapsUnknownLettersToXWhenAsked) {
  const Records records = read(">one\nA-C*4\nD*\n", Unknown::map);
  EXPECT_THAT(records.lines, ElementsAre("one||AXCXXD"));
  EXPECT_EQ(records.report.mapped, 3);
  EXPECT_EQ(records.report.stops, 1);
  EXPECT_EQ(records.report.letters, 6);
  EXPECT_THAT(records.report.notices, ElementsAre(EndsWith("in.fasta:2:2: letter '-' is read as X"),
                                                  HasSubstr("in.fasta:2:4: letter '*'"),
                                                  HasSubstr("in.fasta:2:5: letter '4'")));
}

TEST_F(Fasta, ReadsALineOfTenMegabytesInSmallPieces) {
  std::string line;
  for (int letter = 0; letter < 10'000'000; ++letter) line += "ACDEFGHIKLMNPQRSTVWY"[letter % 20];
  FastaReader reader({file(">long\n" + line + "\n>short\nMK\n")}, Unknown::error);
  ASSERT_TRUE(reader.next_record());
  std::size_t at = 0;
  for (auto letters = reader.read(); !letters.empty(); letters = reader.read()) {
    ASSERT_LE(letters.size(), 64u * 1024);
    ASSERT_EQ(letters, std::string_view(line).substr(at, letters.size()));
    at += letters.size();
  }
  EXPECT_EQ(at, line.size());
  ASSERT_TRUE(reader.next_record());
  EXPECT_EQ(reader.header().identifier, "short");
  EXPECT_THAT(refusal(">long\n" + line + "!\n"), StartsWith("in.fasta:2:10000001: letter '!'"));
}

TEST_F(Fasta, GoesPastUnreadRecords) {
  FastaReader reader({file(">one\nACDE\n>two\nMK\n")}, Unknown::error);
  ASSERT_TRUE(reader.next_record());
  ASSERT_TRUE(reader.next_record());
  EXPECT_EQ(reader.header().identifier, "two");
  EXPECT_EQ(reader.read(), "MK");
  EXPECT_FALSE(reader.next_record());
  EXPECT_EQ(reader.report().letters, 6);
}

TEST_F(Fasta, PassesOverRecordsWhateverTheirLetters) {
  FastaReader reader(
      {file(">one\nAC4>E\n*M\n>two\nMK\n\n>three\n-\n>four\n4"), file(">five\nW4", "b")},
      Unknown::error);
  ASSERT_TRUE(reader.next_record());
  reader.pass_over();
  EXPECT_EQ(reader.read(), "");
  ASSERT_TRUE(reader.next_record());
  EXPECT_EQ(reader.header().identifier, "two");
  EXPECT_EQ(reader.read(), "MK");
  for (const std::string identifier : {"three", "four", "five"}) {
    ASSERT_TRUE(reader.next_record());
    EXPECT_EQ(reader.header().identifier, identifier);
    if (identifier != "five") reader.pass_over();
  }
  EXPECT_THAT(message_of(ErrorKind::data, [&] { static_cast<void>(reader.read()); }),
              HasSubstr("b:2:2: letter '4'"));
  EXPECT_EQ(reader.report().records, 1);
  EXPECT_EQ(reader.report().empty, 0);
}

TEST_F(Fasta, RefusesAHeaderWithoutEnd) {
  EXPECT_THAT(refusal(">" + std::string(2'000'000, 'a')),
              StartsWith("in.fasta:1:1: a header is longer than 1 MiB"));
}

TEST_F(Fasta, ReadsSeveralFilesAndKeepsTheirPlacesApart) {
  const std::string one = file(">one\nAC\n", "one.fasta");
  const std::string two = file(">two\nDE\n>one\nMK", "two.fasta");
  const Records records = read_paths({one, two});
  EXPECT_THAT(records.lines, ElementsAre("one||AC", "two||DE", "one||MK"));
  EXPECT_EQ(records.report.files, 2);
  EXPECT_THAT(records.report.notices, ElementsAre(HasSubstr("two.fasta:3: identifier 'one'")));
}

TEST_F(Fasta, ReadsGzipWhateverItsNameAndItsMembers) {
  const std::string bytes =
      gzip_member(">one\nAC\nD") + gzip_member("") + gzip_member("E\n>two\nMK\n");
  EXPECT_THAT(read_paths({file(bytes, "members.gz")}).lines, ElementsAre("one||ACDE", "two||MK"));
  EXPECT_THAT(read_paths({file(bytes, "members")}).lines, ElementsAre("one||ACDE", "two||MK"));
}

TEST_F(Fasta, ReadsCompressedDataThatIsMuchLongerThanItsFile) {
  const std::string line(5'000'000, 'A');
  const Records records = read(gzip_member(">one\n" + line));
  EXPECT_EQ(records.report.letters, 5'000'000);
}

TEST_F(Fasta, NoticesThatAGzipFileIsCutOff) {
  std::string text = ">one\n";
  for (unsigned letter = 0, state = 1; letter < 300'000; ++letter) {
    state = state * 1664525 + 1013904223;
    text += "ACDEFGHIKLMNPQRSTVWY"[(state >> 16) % 20];
  }
  const std::string member = gzip_member(text);
  ASSERT_EQ(read(member).report.letters, 300'000);
  // In the header, in the data, within the checksum at the end, and in a second member.
  for (const std::size_t length :
       {std::size_t{2}, std::size_t{9}, member.size() / 2, member.size() - 9, member.size() - 1}) {
    EXPECT_THAT(refusal(member.substr(0, length)),
                StartsWith("in.fasta: the compressed data ends too early, its last gzip member is "
                           "incomplete, get the file anew"))
        << length;
  }
  EXPECT_THAT(refusal(member + member.substr(0, 10)), HasSubstr("ends too early"));
}

TEST_F(Fasta, NoticesThatAGzipFileIsDamaged) {
  std::string member = gzip_member(">one\nACDEFGHIKLMNPQRSTVWY\n");
  EXPECT_THAT(refusal(member + "garbage"),
              StartsWith("in.fasta: something follows the compressed data, it is not another gzip "
                         "member"));
  member[member.size() - 6] ^= 1;  // in the checksum
  EXPECT_THAT(refusal(member), AllOf(StartsWith("in.fasta: the compressed data is damaged"),
                                     HasSubstr("incorrect data check")));
}

TEST_F(Fasta, NamesWhatCannotBeOpenedOrRead) {
  const std::string absent = (folder_ / "absent.fasta").string();
  EXPECT_EQ(message_of(ErrorKind::missing, [&] { read_paths({absent}); }),
            absent + ": the input cannot be opened, No such file or directory");
  EXPECT_EQ(message_of(ErrorKind::io, [&] { read_paths({folder_.path().string()}); }),
            folder_.path().string() + ": reading failed, Is a directory");
}

TEST_F(Fasta, AnEmptyFileHasNoRecords) {
  EXPECT_EQ(read("").report.records, 0);
  EXPECT_EQ(read("\n\n").report.records, 0);
}

TEST_F(Fasta, ReadsStandardInputCompressedOrNot) {
  const int saved = ::dup(STDIN_FILENO);
  for (const std::string& bytes : {std::string(">one\nAC\n"), gzip_member(">one\nAC\n")}) {
    const int input = ::open(file(bytes).c_str(), O_RDONLY);
    ASSERT_GE(::dup2(input, STDIN_FILENO), 0);
    ::close(input);
    EXPECT_THAT(read_paths({"-"}).lines, ElementsAre("one||AC"));
  }
  const int input = ::open(file("AC\n").c_str(), O_RDONLY);
  ASSERT_GE(::dup2(input, STDIN_FILENO), 0);
  ::close(input);
  EXPECT_THAT(message_of(ErrorKind::data, [] { read_paths({"-"}); }),
              StartsWith("standard input:1:1: letter 'A' stands before the first header"));
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
}

}  // namespace
}  // namespace longscan

// Texts, their folders, and bytes that are no UTF-8.
#include "io/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/input_files.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class Text : public testing::Test {
 protected:
  std::string read(const std::string& bytes, Unknown unknown = Unknown::error) {
    report_ = {};
    TextReader reader(write_input(folder_ / "in.txt", bytes), unknown, report_);
    std::string text;
    for (auto piece = reader.read(); !piece.empty(); piece = reader.read()) {
      text.append(piece.data(), piece.size());
    }
    return text;
  }
  /// The message of the error that `body` throws, without the folder.
  template <class Body>
  std::string refusal(ErrorKind kind, const Body& body) {
    const std::string message = message_of(kind, body);
    const std::string folder = folder_.path().string() + "/";
    return message.starts_with(folder) ? message.substr(folder.size()) : message;
  }
  std::string refusal_of(const std::string& bytes) {
    return refusal(ErrorKind::data, [&] { read(bytes); });
  }
  /// "split|identifier|title" of each text.
  std::vector<std::string> list() {
    report_ = {};
    std::vector<std::string> lines;
    for (const TextFile& file : list_texts(folder_.path(), report_)) {
      lines.push_back(std::string(name_of(file.split)) + "|" + file.identifier + "|" + file.title);
    }
    return lines;
  }
  void make(const std::string& name, const std::string& bytes = "text") {
    write_input(folder_ / name, bytes);
  }

  TemporaryFolder folder_;
  ReadReport report_;
};

TEST_F(Text, BytesComeThroughUnchanged) {
  const std::string text =
      "\xef\xbb\xbf"
      "a\r\n\t\x01 \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf";
  EXPECT_EQ(read(text), text);
  EXPECT_EQ(report_.letters, static_cast<std::int64_t>(text.size()));
  EXPECT_EQ(report_.records, 1);
  EXPECT_EQ(report_.mapped, 0);
}

TEST_F(Text, RefusesWhatIsNoUtf8WithItsPlaceAndOffset) {
  EXPECT_EQ(refusal_of("one\ntwo \xff\n"),
            "in.txt:2:5: what stands at byte 8 is not UTF-8, texts are UTF-8, convert it with "
            "iconv, or keep such bytes with --unknown=map");
  // Table 3-7 of the Unicode standard, row by row: one past each of its limits.
  for (const char* bytes : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2\x7f", "\xc2\xc0",
                            "\xe0\x9f\xbf", "\xe1\x80\x7f", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                            "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff"}) {
    EXPECT_THAT(refusal_of(std::string("ab") + bytes + "c"),
                StartsWith("in.txt:1:3: what stands at byte 2 is not UTF-8"));
  }
  for (const char* bytes : {"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                            "\xf0\x90\x80\x80", "\xf1\x80\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_EQ(read(bytes), bytes);
  }
}

TEST_F(Text, NoticesACharacterThatTheEndCutsOff) {
  EXPECT_THAT(refusal_of("ab\n\xe2\x82"), StartsWith("in.txt:2:1: what stands at byte 3 is not"));
}

TEST_F(Text, FindsCharactersThatPiecesCutInTwo) {
  std::string text(1, 'a');
  while (text.size() < 1'000'000) text += "\xe2\x82\xac";
  EXPECT_EQ(read(text), text);
  EXPECT_EQ(read(gzip_member(text)), text);
  EXPECT_THAT(refusal_of(text + "\n\x80"),
              StartsWith(fmt::format("in.txt:2:1: what stands at byte {}", text.size() + 1)));
}

TEST_F(Text, KeepsAndCountsWhatIsNoUtf8WhenAsked) {
  const std::string text =
      "a\xff\xfe\nb\xe2\x82"
      "c\xe2";
  EXPECT_EQ(read(text, Unknown::map), text);
  EXPECT_EQ(report_.mapped, 4);
  EXPECT_THAT(
      report_.notices,
      ElementsAre(HasSubstr("in.txt:1:2: what stands at byte 1 is not UTF-8 and is kept"),
                  HasSubstr("in.txt:1:3:"), HasSubstr("in.txt:2:2:"), HasSubstr("in.txt:2:5:")));
}

TEST_F(Text, ListsAFolderBySplitAndName) {
  make("train/20.txt");
  make("train/10.txt");
  make("validation/7.txt");
  make("test/8.txt");
  EXPECT_THAT(list(), ElementsAre("train|10|", "train|20|", "validation|7|", "test|8|"));
  EXPECT_EQ(report_.other_files, 0);
}

TEST_F(Text, TitlesComeFromTheMetadata) {
  make("train/10.txt");
  make("train/20.txt");
  make("train/30.txt");
  make("metadata.csv",
       "10,The King,1611,http://x\r\n\r\n20,\"A \"\"long\"\", long\ntitle\",1900,http://y\r\n99,No "
       "file,1,z");
  EXPECT_THAT(list(),
              ElementsAre("train|10|The King", "train|20|A \"long\", long title", "train|30|"));
}

TEST_F(Text, RefusesMalformedMetadata) {
  make("train/10.txt");
  make("metadata.csv", "10,The King,1611,http://x\n20,\"A title\n");
  EXPECT_EQ(refusal(ErrorKind::data, [&] { list(); }),
            "metadata.csv:2:4: a quoted field has no end, its '\"' is missing, a line is "
            "identifier,title,year,url");
  make("metadata.csv", "10,\"The\" King,1611\n");
  EXPECT_THAT(refusal(ErrorKind::data, [&] { list(); }),
              StartsWith("metadata.csv:1:9: something follows a quoted field"));
  make("metadata.csv", "\n10\n");
  EXPECT_THAT(refusal(ErrorKind::data, [&] { list(); }),
              StartsWith("metadata.csv:2:1: the line has no title"));
}

TEST_F(Text, OtherFilesAreCountedAndDuplicatesNamed) {
  make("train/10.txt");
  make("train/notes.md");
  make("test/10.txt");
  EXPECT_THAT(list(), ElementsAre("train|10|", "test|10|"));
  EXPECT_EQ(report_.other_files, 1);
  EXPECT_EQ(report_.duplicates, 1);
  EXPECT_THAT(report_.notices,
              ElementsAre(EndsWith("train/notes.md: no .txt file, not read"),
                          EndsWith("test/10.txt: identifier '10' was there before; both texts are "
                                   "kept")));
}

TEST_F(Text, AFolderNeedsTextsToTrainOn) {
  make("validation/7.txt");
  EXPECT_THAT(
      message_of(ErrorKind::missing, [&] { list(); }),
      StartsWith(folder_.path().string() + ": there is no text in train/, a folder of texts"));
  std::filesystem::create_directory(folder_ / "train");
  EXPECT_THAT(message_of(ErrorKind::missing, [&] { list(); }), HasSubstr("no text in train/"));
}

TEST_F(Text, NamesAFileThatIsNotThere) {
  EXPECT_THAT(refusal(ErrorKind::missing,
                      [&] { TextReader((folder_ / "absent.txt"), Unknown::error, report_); }),
              StartsWith("absent.txt: the input cannot be opened"));
}

}  // namespace
}  // namespace longscan

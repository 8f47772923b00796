// Token stores: what goes in comes out, and damage is noticed.
#include "io/token_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/support/full_disk.h"
#include "tests/support/input_files.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class Store : public testing::Test {
 protected:
  /// Two records to train on, one to validate with.
  std::string write(const ReadReport& report = {}) {
    TokenStoreWriter writer(path_, Vocabulary::protein());
    writer.append(Split::train, "AC");
    writer.append(Split::train, "D");
    writer.end_record(Split::train, "one", "first\nprotein");
    writer.append(Split::validation, "M");
    writer.end_record(Split::validation, "two", "");
    writer.append(Split::train, "YY");
    writer.end_record(Split::train, "three", "");
    return writer.finish(report);
  }
  std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  /// Reads everything there is to read.
  static void read_all(const TokenStore& store) {
    store.report();
    for (const Split split : kSplits) {
      store.read(split, 0, store.tokens(split));
      store.record_offsets(split, 0, store.records(split));
      store.histogram(split);
      store.identifiers(split);
      store.titles(split);
    }
  }
  std::string refusal(ErrorKind kind = ErrorKind::data) {
    return message_of(kind, [&] { read_all(TokenStore(path_)); });
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "store.h5";
};

TEST_F(Store, KeepsRecordsWithEndTokensOffsetsAndNames) {
  const std::string hash = write();
  const TokenStore store(path_);
  EXPECT_EQ(store.vocabulary().name(), "protein");
  EXPECT_EQ(store.content_hash(), hash);
  EXPECT_EQ(store.tokens(Split::train), 7);
  EXPECT_EQ(store.records(Split::train), 2);
  EXPECT_THAT(store.read(Split::train, 0, 7), ElementsAre(0, 1, 2, 28, 19, 19, 28));
  EXPECT_THAT(store.read(Split::train, 2, 5), ElementsAre(2, 28, 19));
  EXPECT_THAT(store.read(Split::train, 3, 3), IsEmpty());
  EXPECT_THAT(store.record_offsets(Split::train, 0, 2), ElementsAre(0, 4, 7));
  EXPECT_THAT(store.record_offsets(Split::train, 1, 1), ElementsAre(4));
  EXPECT_THAT(store.identifiers(Split::train), ElementsAre("one", "three"));
  EXPECT_THAT(store.titles(Split::train), ElementsAre("first protein", ""));
  EXPECT_THAT(store.read(Split::validation, 0, 2), ElementsAre(10, 28));
  EXPECT_EQ(store.tokens(Split::test), 0);
  EXPECT_EQ(store.records(Split::test), 0);
  EXPECT_THAT(store.identifiers(Split::test), IsEmpty());
  const std::vector<std::int64_t> histogram = store.histogram(Split::train);
  EXPECT_EQ(histogram.size(), 30u);
  EXPECT_EQ(histogram[19], 2);
  EXPECT_EQ(histogram[28], 2);
  EXPECT_EQ(histogram[27], 0);
}

TEST_F(Store, KeepsTheReportOfTheReader) {
  ReadReport report;
  report.files = 1;
  report.lower_case = 2;
  report.mapped = 3;
  report.other_files = std::int64_t{1} << 40;
  report.notices = {"a:1: first", "b:2: second"};
  write(report);
  const ReadReport kept = TokenStore(path_).report();
  EXPECT_EQ(kept.files, 1);
  EXPECT_EQ(kept.lower_case, 2);
  EXPECT_EQ(kept.mapped, 3);
  EXPECT_EQ(kept.other_files, std::int64_t{1} << 40);
  EXPECT_EQ(kept.notices, report.notices);
}

TEST_F(Store, BytesTakeTwoBytesAToken) {
  TokenStoreWriter writer(path_, Vocabulary::bytes());
  writer.append(Split::train, "\xff\x01");
  writer.end_record(Split::train, "text", "");
  writer.finish({});
  EXPECT_THAT(TokenStore(path_).read(Split::train, 0, 3), ElementsAre(255, 1, 258));
}

TEST_F(Store, LongCorporaComeBackFromAnyPlace) {
  constexpr std::int64_t kRecords = 300'000;  // several buffers of tokens, offsets and names
  const auto letters_of = [](std::int64_t record) { return record % 3 + 1; };
  TokenStoreWriter writer(path_, Vocabulary::protein());
  std::vector<std::int64_t> offsets = {0};
  for (std::int64_t record = 0; record < kRecords; ++record) {
    writer.append(Split::train, std::string(letters_of(record), "ACD"[record % 3]));
    writer.end_record(Split::train, std::to_string(record), "");
    offsets.push_back(offsets.back() + letters_of(record) + 1);
  }
  EXPECT_EQ(writer.tokens(Split::train), offsets.back());
  writer.finish({});
  const TokenStore store(path_);
  EXPECT_EQ(store.record_offsets(Split::train, 0, kRecords), offsets);
  EXPECT_EQ(store.identifiers(Split::train).back(), std::to_string(kRecords - 1));
  for (std::int64_t record = 0; record < kRecords; record += 997) {
    EXPECT_EQ(store.record_of(Split::train, offsets[record]), record);
    EXPECT_EQ(store.record_of(Split::train, offsets[record + 1] - 1), record);
    std::vector<std::int32_t> expected(letters_of(record), static_cast<std::int32_t>(record % 3));
    expected.push_back(28);
    EXPECT_EQ(store.read(Split::train, offsets[record], offsets[record + 1]), expected);
  }
}

TEST_F(Store, TheHashStandsForTokensAndRecords) {
  const auto hash_of = [&](const std::vector<std::string>& records) {
    TokenStoreWriter writer(folder_ / "other.h5", Vocabulary::protein());
    for (const std::string& record : records) {
      writer.append(Split::train, record);
      writer.end_record(Split::train, "", "");
    }
    return writer.finish({});
  };
  const std::string hash = hash_of({"ACD", "M"});
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_EQ(hash, hash_of({"ACD", "M"}));
  EXPECT_NE(hash, hash_of({"ACD", "Y"}));
  EXPECT_NE(hash, hash_of({"AC", "DM"}));
  EXPECT_NE(hash, hash_of({"M", "ACD"}));
}

TEST_F(Store, ThreadsMayShareOneAndOpenTheirOwn) {
  write();
  const TokenStore shared(path_);
  std::vector<std::thread> ranks;
  std::vector<std::int64_t> right(4);
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([&, rank] {
      for (int round = 0; round < 50; ++round) {
        const TokenStore own(path_);
        right[rank] += own.read(Split::train, 0, 7) == shared.read(Split::train, 0, 7);
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_THAT(right, testing::Each(50));
}

TEST_F(Store, AppearsWholeOrNotAtAll) {
  {
    TokenStoreWriter writer(path_, Vocabulary::protein());
    writer.append(Split::train, "ACD");
    EXPECT_FALSE(std::filesystem::exists(path_));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  const std::string hash = write();
  { TokenStoreWriter given_up(path_, Vocabulary::bytes()); }
  EXPECT_EQ(TokenStore(path_).content_hash(), hash);
}

TEST_F(Store, NamesAFileThatIsNotThereOrCannotBeMade) {
  EXPECT_EQ(refusal(ErrorKind::missing),
            path_.string() + ": there is no such token store, longscan pack writes one");
  path_ = folder_ / "absent" / "store.h5";
  EXPECT_THAT(message_of(ErrorKind::io, [&] { write(); }),
              AllOf(StartsWith(path_.string() + ": the token store cannot be made"),
                    HasSubstr("No such file or directory")));
}

/// Writes a store of 5,000,000 letters where the disk is full after `bytes` bytes; for a process of
/// its own, which ends with the error's exit code.
[[noreturn]] void write_on_a_full_disk(const std::filesystem::path& path, std::int64_t bytes) {
  bytes_until_full = bytes;
  try {
    TokenStoreWriter writer(path, Vocabulary::bytes());
    for (int record = 0; record < 5'000; ++record) {
      writer.append(Split::train, std::string(1'000, 'a'));
      writer.end_record(Split::train, std::to_string(record), "");
    }
    writer.finish({});
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    std::exit(std::filesystem::is_empty(path.parent_path()) ? exit_code(error.kind()) : 1);
  }
  std::exit(0);
}

TEST_F(Store, SaysThatTheDiskIsFullAndLeavesNothingBehind) {
  // Full at the first token, on the way, and when the last things are written.
  for (const std::int64_t bytes : {1'000, 3'000'000, 10'000'000}) {
    EXPECT_EXIT(write_on_a_full_disk(path_, bytes), testing::ExitedWithCode(74),
                "store.h5: the token store cannot be written, .* No space left on device")
        << bytes;
  }
  EXPECT_EXIT(write_on_a_full_disk(path_, 20'000'000), testing::ExitedWithCode(0), "");
}

TEST_F(Store, RefusesWhatIsNoHdf5File) {
  write_input(path_, "this is some text, and it is not HDF5");
  EXPECT_THAT(refusal(), AllOf(StartsWith(path_.string() + ": this is no token store"),
                               HasSubstr("file signature not found")));
  write_input(path_, "");
  EXPECT_THAT(refusal(), StartsWith(path_.string() + ": this is no token store"));
}

TEST_F(Store, RefusesAnotherKindOfHdf5File) {
  H5Fclose(H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  EXPECT_THAT(refusal(), HasSubstr("it is an HDF5 file of another kind"));
}

/// Replaces an integer attribute of the file.
void set_attribute(const std::filesystem::path& path, const char* name, std::int64_t value) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
  EXPECT_GE(H5Awrite(attribute, H5T_NATIVE_INT64, &value), 0);
  H5Aclose(attribute);
  H5Fclose(file);
}

TEST_F(Store, RefusesAnotherFormatVersion) {
  write();
  set_attribute(path_, "format_version", 2);
  EXPECT_THAT(refusal(), HasSubstr("it has format version 2, this program reads version 1"));
}

TEST_F(Store, RefusesNumbersThatContradictEachOther) {
  write();
  const hid_t file = H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t dataset = H5Dopen2(file, "train/tokens", H5P_DEFAULT);
  const hsize_t shorter = 5;
  EXPECT_GE(H5Dset_extent(dataset, &shorter), 0);
  H5Dclose(dataset);
  H5Fclose(file);
  EXPECT_THAT(refusal(), HasSubstr("the numbers of tokens in 'train' contradict each other"));
}

TEST_F(Store, NoticesThatItIsCutOff) {
  write();
  const auto size = std::filesystem::file_size(path_);
  for (const auto left : {size - 1, size / 2, size / 10}) {
    write();
    std::filesystem::resize_file(path_, left);
    EXPECT_THAT(refusal(), StartsWith(path_.string() + ": this is no token store")) << left;
  }
}

TEST_F(Store, NoticesFlippedBitsInTokens) {
  TokenStoreWriter writer(path_, Vocabulary::protein());
  const std::string letters(100'000, 'W');
  writer.append(Split::train, letters);
  writer.end_record(Split::train, "long", "");
  writer.finish({});
  const std::string whole = bytes();
  const std::size_t run = whole.find(std::string(1000, '\x12'));  // 'W' is token 18
  ASSERT_NE(run, std::string::npos);
  for (std::size_t flip = 0; flip < 40; ++flip) {
    std::string damaged = whole;
    damaged[run + flip * 101] ^= static_cast<char>(1 << (flip % 8));
    write_input(path_, damaged);
    const TokenStore store(path_);
    EXPECT_THAT(message_of(ErrorKind::data, [&] { store.read(Split::train, 0, 100'001); }),
                AllOf(StartsWith(path_.string()), HasSubstr("Fletcher32")));
  }
}

TEST_F(Store, RefusesRangesOutsideOfASplit) {
  write();
  const TokenStore store(path_);
  EXPECT_THAT(message_of(ErrorKind::internal, [&] { store.read(Split::train, 0, 8); }),
              HasSubstr("TokenStore::read"));
  message_of(ErrorKind::internal, [&] { store.read(Split::train, -1, 2); });
  message_of(ErrorKind::internal, [&] { store.record_of(Split::train, 7); });
  message_of(ErrorKind::internal, [&] { store.record_offsets(Split::train, 0, 3); });
}

TEST_F(Store, UnigramPerplexityIsThatOfTheTrainingHistogramPlusOne) {
  write();
  const TokenStore store(path_);
  // Train: A, C, D once, Y and `end` twice; 7 + 30 in all. Validation: M and `end`.
  const double cross_entropy = -(std::log(1.0 / 37) + std::log(3.0 / 37)) / 2;
  EXPECT_NEAR(unigram_perplexity(store, Split::validation), std::exp(cross_entropy), 1e-12);
  EXPECT_TRUE(std::isnan(unigram_perplexity(store, Split::test)));
}

}  // namespace
}  // namespace longscan

// The files of attention and of similarities: what is in them, and what a full disk leaves.
#include "io/attention_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/hdf5.h"
#include "tests/support/full_disk.h"
#include "tests/support/input_files.h"
#include "tests/support/reference.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using test::OwnedTensor;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::int64_t kTokens = 300;
const std::int64_t kHeads[] = {1, 4};

AttendingRecord record() {
  return {.checkpoint = "run/step-00000003.h5",
          .step = 3,
          .identifier = "P1",
          .description = "a protein",
          .sequence = std::string(kTokens - 1, 'M'),
          .tokens = std::vector<std::int32_t>(kTokens, 10),
          .labels = std::vector<std::string>(kTokens, "M")};
}

OwnedTensor matrices(DType dtype) {
  return OwnedTensor::random(dtype, {2, kTokens, kTokens}, 1);
}

void write_attention(const std::filesystem::path& path) {
  AttentionFile file(path, record(), kHeads);
  file.write_layer(0, "relu", matrices(DType::f32));
  file.write_layer(2, "softmax", matrices(DType::f64));
  file.finish();
}

void write_similarities(const std::filesystem::path& path) {
  const std::vector<double> values = {1, 2, 3, 4};
  write_similarity(path, {.checkpoint = "run",
                          .step = 3,
                          .records = 7,
                          .letters = "AC",
                          .similarity = values,
                          .symmetrized = values,
                          .likeness = values,
                          .blosum62 = values});
}

class AttentionFiles : public testing::Test {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "map.h5";
};

TEST_F(AttentionFiles, HoldEveryLayerOfARecord) {
  write_attention(path_);
  const hdf5::File file = hdf5::open_file(path_.string());
  EXPECT_THAT(hdf5::link_names(file.id()),
              ElementsAre("heads", "labels", "layer_0", "layer_2", "tokens"));
  EXPECT_EQ(hdf5::read_string_attribute(file.id(), "format"), "longscan attention");
  EXPECT_EQ(hdf5::read_string_attribute(file.id(), "record"), "P1");
  EXPECT_EQ(hdf5::read_string_attribute(file.id(), "sequence"), record().sequence);
  EXPECT_EQ(hdf5::read_vector<std::int32_t>(file.id(), "tokens"), record().tokens);
  EXPECT_THAT(hdf5::read_vector<std::int64_t>(file.id(), "heads"), ElementsAre(1, 4));
  const hdf5::Dataset layer = hdf5::open_dataset(file.id(), "layer_2");
  EXPECT_THAT(hdf5::shape_of(layer), ElementsAre(2, kTokens, kTokens));
  EXPECT_EQ(hdf5::read_string_attribute(layer.id(), "kind"), "softmax");
  EXPECT_EQ(hdf5::read_integer_attribute(layer.id(), "layer"), 2);
  EXPECT_TRUE(hdf5::has_type(layer, hdf5::type_of<double>()));
  EXPECT_EQ(hdf5::read_vector<double>(file.id(), "layer_2"), matrices(DType::f64).values());
  EXPECT_EQ(hdf5::read_vector<double>(file.id(), "layer_0"), matrices(DType::f32).values());
}

TEST_F(AttentionFiles, AppearAsAWholeOrNotAtAll) {
  {
    AttentionFile file(path_, record(), kHeads);
    file.write_layer(0, "relu", matrices(DType::f32));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(AttentionFiles, TakeOnlyMatricesOfTheirHeadsAndTokens) {
  AttentionFile file(path_, record(), kHeads);
  test::expect_error(ErrorKind::internal, "AttentionFile.matrices", [&] {
    file.write_layer(0, "relu", OwnedTensor(DType::f32, {1, kTokens, kTokens}));
  });
}

TEST_F(AttentionFiles, NameAFileThatCannotBeMade) {
  const std::filesystem::path absent = folder_ / "absent" / "map.h5";
  EXPECT_THAT(message_of(ErrorKind::io, [&] { write_attention(absent); }),
              AllOf(StartsWith(absent.string() + ": the file of attention matrices cannot be made"),
                    HasSubstr("No such file or directory")));
  EXPECT_THAT(message_of(ErrorKind::io, [&] { write_similarities(absent); }),
              StartsWith(absent.string() + ": the file of similarities cannot be made"));
}

/// For a process of its own, which ends with the error's exit code.
template <class Write>
[[noreturn]] void on_a_full_disk(const std::filesystem::path& path, std::int64_t bytes,
                                 const Write& write) {
  bytes_until_full = bytes;
  try {
    write(path);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    std::exit(std::filesystem::is_empty(path.parent_path()) ? exit_code(error.kind()) : 1);
  }
  std::exit(0);
}

TEST_F(AttentionFiles, SayThatTheDiskIsFullAndLeaveNothingBehind) {
  for (const std::int64_t bytes : {1'000, 300'000, 1'500'000}) {
    EXPECT_EXIT(
        on_a_full_disk(path_, bytes, write_attention), testing::ExitedWithCode(74),
        "map.h5: the file of attention matrices cannot be written, .* No space left on device")
        << bytes;
  }
  EXPECT_EXIT(on_a_full_disk(path_, 1'000, write_similarities), testing::ExitedWithCode(74),
              "map.h5: the file of similarities cannot be written, .* No space left on device");
  EXPECT_EXIT(on_a_full_disk(path_, 3'000'000, write_attention), testing::ExitedWithCode(0), "");
}

TEST_F(AttentionFiles, HoldSimilarities) {
  write_similarities(path_);
  const hdf5::File file = hdf5::open_file(path_.string());
  EXPECT_EQ(hdf5::read_string_attribute(file.id(), "format"), "longscan similarity");
  EXPECT_EQ(hdf5::read_integer_attribute(file.id(), "records"), 7);
  EXPECT_EQ(hdf5::read_text(file.id(), "letters"), "AC");
  for (const std::string name : {"similarity", "symmetrized", "likeness", "blosum62"}) {
    EXPECT_THAT(hdf5::shape_of(hdf5::open_dataset(file.id(), name)), ElementsAre(2, 2));
    EXPECT_THAT(hdf5::read_vector<double>(file.id(), name), ElementsAre(1, 2, 3, 4));
  }
}

}  // namespace
}  // namespace longscan

// What tests of `longscan inspect attention` and `inspect similarity` begin with.
#pragma once

#include <algorithm>
#include <list>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/hdf5.h"
#include "tests/support/program.h"

namespace longscan::test {

inline const std::string kFirst = "MKVLAADEFYWHIKLMNPQRSTV";
inline const std::string kSecond = "ACDEFGHIKLMNPQRSTVWYXAC";

/// The numbers of a dataset, and its shape.
struct Numbers {
  std::vector<std::int64_t> shape;
  std::vector<double> values;
};

inline Numbers numbers_in(const std::filesystem::path& path, const std::string& dataset) {
  const hdf5::File file = hdf5::open_file(path.string());
  Numbers numbers{.shape = hdf5::shape_of(hdf5::open_dataset(file.id(), dataset)), .values = {}};
  numbers.values = hdf5::read_vector<double>(file.id(), dataset);
  return numbers;
}

inline std::string attribute_of(const std::filesystem::path& path, const std::string& name,
                                const std::string& dataset = "") {
  const hdf5::File file = hdf5::open_file(path.string());
  if (dataset.empty()) return hdf5::read_string_attribute(file.id(), name);
  return hdf5::read_string_attribute(hdf5::open_dataset(file.id(), dataset).id(), name);
}

class InspectTest : public ProgramTest {
 protected:
  void SetUp() override {
    make_corpus();
    write_text(folder_ / "two.fasta",
               ">first made for a test\n" + kFirst + "\n>second\n" + kSecond + "\n>2\nMKV\n");
  }

  /// A run of two layers, of which the second has another kind of attention.
  void train(const std::string& run, const std::string& options = "") {
    succeed("train --config small.textproto --set training.segment=0 --run " + run + " " + options);
  }
  /// Bidirectional, of masked tokens.
  void train_masked(const std::string& run, const std::string& options = "") {
    train(run, "--set model.causal=false --set training.objective=masked_token " + options);
  }

  static constexpr const char* kHybrid =
      "--set model.attention.kind=favor_softmax --set model.attention.features=16 "
      "--set model.attention.redraw_interval=5 "
      "--set 'model.layer_override=layers: 1 attention { kind: elu1 }'";

  void expect_refused(const std::string& arguments, int code, const std::string& message) {
    const Outcome outcome = longscan(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << outcome.errors;
    EXPECT_THAT(outcome.errors,
                testing::AllOf(testing::HasSubstr("longscan: "), testing::HasSubstr(message)));
  }

  /// A checkpoint with one parameter full of a number, in another folder.
  void write_with(const std::filesystem::path& checkpoint, const std::string& folder,
                  const std::string& name, float value) {
    std::vector<NamedTensor> tensors;
    std::list<std::vector<float>> memory;
    for (const StoredTensor& stored : list_parameters(checkpoint)) {
      const std::vector<std::int64_t>& shape = stored.shape;
      const std::int64_t columns = shape.size() == 1 ? 1 : shape[1];
      float* const values =
          memory.emplace_back(static_cast<std::size_t>(shape[0] * columns)).data();
      tensors.push_back(
          {stored.name, shape.size() == 1
                            ? Tensor::dense(values, DType::f32, {shape[0]})
                            : Tensor::dense(values, DType::f32, {shape[0], columns})});
    }
    read_checkpoint(checkpoint, tensors);
    for (const auto& [other, tensor] : tensors) {
      if (other == name) std::fill_n(tensor.as<float>(), tensor.size(), value);
    }
    std::filesystem::create_directories(folder_ / folder);
    write_checkpoint(folder_ / folder, {.header = read_checkpoint_header(checkpoint),
                                        .model = tensors,
                                        .first_moment = tensors,
                                        .second_moment = tensors});
  }

  /// Pixels of a PNG, from its header.
  void expect_picture(const std::string& name, std::int64_t least) {
    const std::string bytes = contents_of(folder_ / name);
    ASSERT_GT(bytes.size(), 33U) << name;
    EXPECT_EQ(bytes.substr(0, 8), "\x89PNG\r\n\x1a\n");
    EXPECT_EQ(bytes.substr(12, 4), "IHDR");
    for (const std::size_t place : {16, 20}) {
      std::int64_t pixels = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        pixels = 256 * pixels + static_cast<unsigned char>(bytes[place + i]);
      }
      EXPECT_GE(pixels, least) << name;
      EXPECT_LE(pixels, 4000) << name;
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / (name + ".partial")));
  }
};

}  // namespace longscan::test

// The program `longscan` as its users meet it: started with arguments on some ranks, with its exit
// code and what it has printed; and a corpus small enough to train on in a test.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "kernels/buffer.h"
#include "kernels/random.h"
#include "tests/support/temporary_folder.h"

namespace longscan::test {

struct Outcome {
  int code = -1;  ///< exit code; -1 where a signal has ended the program
  std::string output;
  std::string errors;
};

inline std::string contents_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

/// Proteins in which a letter says much about the next one, so that there is something to learn.
inline std::string sample_fasta(std::uint64_t records, std::uint64_t seed = 11) {
  const std::string letters = "ACDEFGHIKLMNPQRSTVWY";
  std::string text;
  for (std::uint64_t record = 0; record < records; ++record) {
    text += ">protein_" + std::to_string(record) + " made for a test\n";
    const RandomKey key{seed, RandomPurpose::sample, record};
    std::size_t letter = random_words(key, 0)[0] % letters.size();
    const std::uint64_t length = 20 + random_words(key, 0)[1] % 60;
    for (std::uint64_t i = 1; i <= length; ++i) {
      text += letters[letter];
      if (i % 30 == 0) text += '\n';
      const RandomWords words = random_words(key, i);
      letter = (words[0] % 4 == 0 ? words[1] : letter * 7 + 3) % letters.size();
    }
    text += '\n';
  }
  return text;
}

/// A folder with a program to run in it.
class ProgramTest : public testing::Test {
 protected:
  /// Runs a command of the shell in the folder.
  Outcome shell(const std::string& command) {
    const std::string line = "export " LONGSCAN_ENVIRONMENT "; cd '" + folder_.path().string() +
                             "' && ( " + command + " ) > 'output.log' 2> 'errors.log' < /dev/null";
    const int status = std::system(line.c_str());
    return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            .output = contents_of(folder_ / "output.log"),
            .errors = contents_of(folder_ / "errors.log")};
  }

  Outcome longscan(const std::string& arguments) { return shell(program() + " " + arguments); }
  /// On several ranks.
  Outcome longscan(int ranks, const std::string& arguments) {
    return shell(mpirun() + " -n " + std::to_string(ranks) + " " + program() + " " + arguments);
  }
  /// The same, which must succeed. Returns what it has printed.
  std::string succeed(const std::string& arguments) { return expect_success(longscan(arguments)); }
  std::string succeed(int ranks, const std::string& arguments) {
    return expect_success(longscan(ranks, arguments));
  }

  static std::string program() { return "'" LONGSCAN_PROGRAM "'"; }
  static std::string mpirun() { return LONGSCAN_MPIRUN; }

  /// FOLDER/store.h5 of some proteins, with a validation split, and FOLDER/small.textproto for a
  /// model that takes milliseconds a step.
  void make_corpus() {
    write_text(folder_ / "proteins.fasta", sample_fasta(60));
    write_text(folder_ / "small.textproto",
               "data { store: 'store.h5' window: 100 batch: 3 }\n"
               "model { width: 16 layers: 2 heads: 2 hidden: 24 }\n"
               "optimizer { learning_rate: 0.01 warmup_steps: 4 schedule: constant }\n"
               "training { max_steps: 12 segment: 70 log_every: 1 }\n"
               "parallel { threads: 1 }\n");
    succeed("pack proteins.fasta --out store.h5 --validation-fraction 0.2");
  }

  TemporaryFolder folder_;

 private:
  static std::string expect_success(const Outcome& outcome) {
    EXPECT_EQ(outcome.code, 0) << outcome.errors << outcome.output;
    return outcome.output;
  }
};

/// The number that follows `label` where it first stands, NaN where it stands nowhere.
inline double number_behind(const std::string& text, const std::string& label) {
  const std::size_t found = text.find(label);
  return found == std::string::npos ? NAN : std::stod(text.substr(found + label.size()));
}

/// What follows `key` on each line of metrics.jsonl that has it.
inline std::vector<double> metric(const std::filesystem::path& run, const std::string& key) {
  std::vector<double> values;
  std::ifstream file(run / "metrics.jsonl");
  const std::string wanted = "\"" + key + "\": ";
  for (std::string line; std::getline(file, line);) {
    const std::size_t found = line.find(wanted);
    if (found != std::string::npos) values.push_back(std::stod(line.substr(found + wanted.size())));
  }
  return values;
}

/// Every parameter of a checkpoint, one behind the other in the order of their names.
inline std::vector<float> parameters_of(const std::filesystem::path& checkpoint) {
  std::vector<NamedTensor> tensors;
  std::vector<float> values;
  std::int64_t size = 0;
  const auto size_of_shape = [](const StoredTensor& stored) {
    std::int64_t product = 1;
    for (const std::int64_t extent : stored.shape) product *= extent;
    return product;
  };
  const std::vector<StoredTensor> list = list_parameters(checkpoint);
  for (const StoredTensor& stored : list) size += size_of_shape(stored);
  values.resize(static_cast<std::size_t>(size));
  float* next = values.data();
  for (const StoredTensor& stored : list) {
    EXPECT_EQ(stored.dtype, DType::f32);
    const std::vector<std::int64_t>& shape = stored.shape;
    tensors.push_back({stored.name, shape.size() == 1
                                        ? Tensor::dense(next, DType::f32, {shape[0]})
                                        : Tensor::dense(next, DType::f32, {shape[0], shape[1]})});
    next += size_of_shape(stored);
  }
  read_checkpoint(checkpoint, tensors);
  return values;
}

inline double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return largest;
}

}  // namespace longscan::test

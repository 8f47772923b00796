// Checkpoints: what is written comes back bit by bit, and nothing damaged is ever taken for whole.
#include "io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <random>
#include <thread>

#include "io/atomic_file.h"
#include "io/checkpoint_folder.h"
#include "io/manifest.h"
#include "kernels/error.h"
#include "tests/support/checkpoint_samples.h"
#include "tests/support/full_disk.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string error_of(ErrorKind kind, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "nothing was thrown";
}

void overwrite(const fs::path& path, const std::string& contents) {
  fs::remove(path);
  FileDescriptor::create(path).write(contents);
}

void flip_bit(const fs::path& path, std::uint64_t bit) {
  std::string contents = read_file(path);
  contents[bit / 8] = static_cast<char>(contents[bit / 8] ^ (1 << (bit % 8)));
  overwrite(path, contents);
}

std::vector<std::int64_t> steps_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  for (const CheckpointFile& file : list_checkpoints(folder)) steps.push_back(file.step);
  return steps;
}

TEST(Checkpoint, ComesBackBitByBit) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder / "deep" / "run", 100, 5);
  EXPECT_EQ(path.filename(), "step-00000100.h5");
  EXPECT_EQ(load_bytes(path), expected_bytes(5));

  const CheckpointHeader header = read_checkpoint_header(path);
  const CheckpointHeader expected = sample_header(100, 5);
  EXPECT_EQ(header.step, expected.step);
  EXPECT_EQ(header.tokens_seen, expected.tokens_seen);
  EXPECT_EQ(header.loader_epoch, expected.loader_epoch);
  EXPECT_EQ(header.loader_window, expected.loader_window);
  EXPECT_EQ(header.seed, expected.seed);
  EXPECT_EQ(header.vocabulary, expected.vocabulary);
  EXPECT_EQ(header.data_hash, expected.data_hash);
  EXPECT_EQ(header.configuration, expected.configuration);
}

TEST(Checkpoint, ListsItsParameters) {
  const TemporaryFolder folder;
  const std::vector<StoredTensor> stored = list_parameters(save_sample(folder.path(), 1, 1));
  ASSERT_THAT(stored, SizeIs(3));
  EXPECT_EQ(stored[0].name, "embedding.weight");
  EXPECT_EQ(stored[0].dtype, DType::f32);
  EXPECT_THAT(stored[0].shape, ElementsAre(370, 190));
  EXPECT_EQ(stored[2].name, "layers.0.norm.bias");
  EXPECT_EQ(stored[2].dtype, DType::f64);
}

TEST(Checkpoint, LeavesTheMomentsAloneWhenNotAskedForThem) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 8);
  SampleTensors tensors;
  read_checkpoint(path, tensors.model);
  EXPECT_EQ(tensors.model[0].tensor.as<float>()[3], 11.0f);
  EXPECT_EQ(tensors.first_moment[0].tensor.as<float>()[3], 0.0f);
}

TEST(Checkpoint, FillsSomeOfItsParameters) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 8);
  SampleTensors tensors;
  read_parameters(path, std::span(tensors.model).subspan(1, 1));
  EXPECT_EQ(tensors.model[1].tensor.as<float>()[3], 11.0f);
  EXPECT_EQ(tensors.model[0].tensor.as<float>()[3], 0.0f);
  std::vector<NamedTensor> unknown = {tensors.model[0], tensors.model[1]};
  unknown[1].name = "layers.7.attention.heads";
  tensors.fill(0);
  EXPECT_THAT(error_of(ErrorKind::data, [&] { read_parameters(path, unknown); }),
              HasSubstr("layers.7.attention.heads is not in the checkpoint"));
  EXPECT_EQ(tensors.model[0].tensor.as<float>()[3], 3.0f) << "nothing was changed";
  flip_bit(path, 8 * fs::file_size(path) / 2);
  EXPECT_THAT(error_of(ErrorKind::data,
                       [&] { read_parameters(path, std::span(tensors.model).subspan(1, 1)); }),
              HasSubstr("step-00000001.h5"));
}

TEST(Checkpoint, NamesTheParameterThatDoesNotFit) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 1);
  SampleTensors tensors;
  const auto load = [&](const std::vector<NamedTensor>& model) {
    return error_of(ErrorKind::data, [&] { read_checkpoint(path, model); });
  };

  std::vector<NamedTensor> renamed = tensors.model;
  renamed[1].name = "layers.7.attention.heads";
  EXPECT_THAT(load(renamed),
              AllOf(HasSubstr("step-00000001.h5: model/layers.7.attention.heads is not in the"),
                    HasSubstr("f32[3, 4, 2]")));
  std::vector<NamedTensor> fewer(tensors.model.begin(), tensors.model.begin() + 2);
  EXPECT_THAT(load(fewer), HasSubstr("model/layers.0.norm.bias of the checkpoint, f64[5], has no"));
  std::vector<NamedTensor> reshaped = tensors.model;
  reshaped[0].tensor = reshaped[0].tensor.reshaped({190, 370});
  EXPECT_THAT(load(reshaped),
              AllOf(HasSubstr("model/embedding.weight is f32[370, 190] in the checkpoint"),
                    HasSubstr("the model expects f32[190, 370]")));
  std::vector<NamedTensor> retyped = tensors.model;
  retyped[2].tensor.dtype = DType::f32;
  EXPECT_THAT(load(retyped), AllOf(HasSubstr("f64[5]"), HasSubstr("expects f32[5]")));
  EXPECT_EQ(tensors.bytes(), SampleTensors().bytes()) << "nothing is read when something is wrong";
}

TEST(Checkpoint, RefusesWhatItCannotHold) {
  const TemporaryFolder folder;
  SampleTensors tensors;
  CheckpointContents contents{.header = sample_header(1, 1),
                              .model = tensors.model,
                              .first_moment = {},
                              .second_moment = {}};
  contents.model[0].name = "a/b";
  error_of(ErrorKind::internal, [&] { write_checkpoint(folder.path(), contents); });
  contents.model[0].name = "a";
  contents.model[0].tensor.dtype = DType::i32;
  EXPECT_THAT(error_of(ErrorKind::internal, [&] { write_checkpoint(folder.path(), contents); }),
              HasSubstr("i32"));
  EXPECT_THAT(steps_in(folder.path()), IsEmpty());
}

TEST(Checkpoint, NoticesEveryFlippedBitByItsManifest) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 1);
  std::mt19937_64 random(1);
  std::uniform_int_distribution<std::uint64_t> bits(0, fs::file_size(path) * 8 - 1);
  for (int round = 0; round < 80; ++round) {
    const std::uint64_t bit = bits(random);
    flip_bit(path, bit);
    EXPECT_THAT(error_of(ErrorKind::data, [&] { load_bytes(path); }), HasSubstr("SHA-256"));
    flip_bit(path, bit);
  }
  EXPECT_EQ(load_bytes(path), expected_bytes(1));
}

TEST(Checkpoint, LoadsNoFlippedBitEvenWithoutItsManifest) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 1);
  std::mt19937_64 random(2);
  std::uniform_int_distribution<std::uint64_t> bits(0, fs::file_size(path) * 8 - 1);
  int noticed = 0;
  for (int round = 0; round < 80; ++round) {
    const std::uint64_t bit = bits(random);
    flip_bit(path, bit);
    const Fingerprint forged = fingerprint_of(path);
    write_manifest(path, std::span(&forged, 1));
    try {
      EXPECT_EQ(load_bytes(path), expected_bytes(1)) << "a wrong number was loaded, bit " << bit;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("step-00000001.h5: "));
      ++noticed;
    }
    flip_bit(path, bit);
  }
  // The rest fell into bytes that no number depends on.
  EXPECT_GE(noticed, 70);
}

TEST(Checkpoint, NoticesATruncatedFile) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 1);
  fs::resize_file(path, fs::file_size(path) / 2);
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_bytes(path); }),
              AllOf(HasSubstr("step-00000001.h5: the file is damaged"), HasSubstr("bytes")));
  const Fingerprint forged = fingerprint_of(path);
  write_manifest(path, std::span(&forged, 1));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { load_bytes(path); }),
              HasSubstr("step-00000001.h5: the checkpoint is damaged"));
}

TEST(Checkpoint, NeedsItsManifest) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 1, 1);
  const std::string manifest = read_file(manifest_of(path));
  fs::remove(manifest_of(path));
  EXPECT_THAT(error_of(ErrorKind::missing, [&] { load_bytes(path); }),
              HasSubstr("step-00000001.h5.manifest: the manifest is missing"));
  for (const std::string& damaged : {std::string(), manifest.substr(1), manifest + "x",
                                     manifest.substr(0, manifest.size() - 1), "x" + manifest}) {
    overwrite(manifest_of(path), damaged);
    EXPECT_THAT(error_of(ErrorKind::data, [&] { load_bytes(path); }), HasSubstr("manifest"));
  }
  EXPECT_THAT(error_of(ErrorKind::missing, [&] { load_bytes(folder / "step-00000002.h5"); }),
              HasSubstr("there is no such file"));
}

TEST(Checkpoint, SaysWhenItCannotBeWritten) {
  const TemporaryFolder folder;
  write_file(folder / "file", "not a folder");
  EXPECT_THAT(error_of(ErrorKind::io, [&] { save_sample(folder / "file" / "run", 1, 1); }),
              HasSubstr("/file: cannot make the folder, there is a file of this name"));
}

/// Runs `work` in a child process to its regular end and returns its exit status, 98 after a
/// signal.
int status_of_child(const std::function<int()>& work) {
  const pid_t child = fork();
  if (child == 0) std::exit(work());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

/// Saves where the disk is full after `bytes` bytes of HDF5, and again when it has room. 0 when
/// both went well.
int save_on_a_full_disk(const fs::path& folder, std::int64_t bytes) {
  bytes_until_full = bytes;
  const std::string message = error_of(ErrorKind::io, [&] { save_sample(folder, 2, 2); });
  bytes_until_full = kNeverFull;
  const bool is_explained =
      message.find("step-00000002.h5: cannot write the checkpoint") != std::string::npos &&
      message.find("No space left on device") != std::string::npos;
  if (!is_explained || testing::Test::HasFailure()) return 1;
  if (fs::exists(folder / "step-00000002.h5.partial")) return 2;
  if (find_latest(folder).path != folder / "step-00000001.h5") return 3;
  return load_bytes(save_sample(folder, 3, 3)) == expected_bytes(3) ? 0 : 4;
}

TEST(Checkpoint, SurvivesADiskThatIsFull) {
  for (const std::int64_t bytes : {5'000, 100'000, 300'000, 700'000, 840'000}) {
    const TemporaryFolder folder;
    save_sample(folder.path(), 1, 1);
    // A process of its own, because HDF5 would crash at its end over a file it could not close.
    EXPECT_EQ(status_of_child([&] { return save_on_a_full_disk(folder.path(), bytes); }), 0)
        << "full after " << bytes << " bytes";
  }
}

TEST(Checkpoint, SurvivesALimitOnTheSizeOfFiles) {
  const TemporaryFolder folder;
  save_sample(folder.path(), 1, 1);
  const int status = status_of_child([&] {
    signal(SIGXFSZ, SIG_IGN);  // a write past the limit then fails
    const rlimit limit{.rlim_cur = 1'000, .rlim_max = 1'000};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = error_of(ErrorKind::io, [&] { save_sample(folder.path(), 2, 2); });
    return message.find("step-00000002.h5.partial: cannot write the file") == std::string::npos;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-00000001.h5");
}

// ---- the folder

TEST(CheckpointFolder, IsNewWhenThereIsNothing) {
  const TemporaryFolder folder;
  for (const fs::path& path : {folder.path(), folder / "not there yet"}) {
    const LatestCheckpoint latest = find_latest(path);
    EXPECT_TRUE(latest.path.empty());
    EXPECT_THAT(latest.passed_over, IsEmpty());
  }
}

TEST(CheckpointFolder, ListsByStepAndFindsTheLatest) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {20, 100, 123'456'789})
    save_sample(folder.path(), step, step % 99);
  write_file(folder / "step-x.h5", "not one of ours");
  EXPECT_THAT(steps_in(folder.path()), ElementsAre(20, 100, 123'456'789));
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-123456789.h5");
}

TEST(CheckpointFolder, FollowsLatestAndNotTheHighestStep) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {30, 20}) save_sample(folder.path(), step, step);
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-00000020.h5");
}

TEST(CheckpointFolder, FallsBackFromADamagedCheckpointAndSaysSo) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20, 30}) save_sample(folder.path(), step, step);
  flip_bit(folder / "step-00000030.h5", 4321);
  fs::remove(folder / "step-00000020.h5.manifest");
  const LatestCheckpoint latest = find_latest(folder.path());
  EXPECT_EQ(latest.path, folder / "step-00000010.h5");
  EXPECT_THAT(latest.passed_over,
              ElementsAre(AllOf(HasSubstr("step-00000030.h5"), HasSubstr("SHA-256")),
                          AllOf(HasSubstr("step-00000020.h5"), HasSubstr("manifest is missing"))));
}

TEST(CheckpointFolder, FallsBackWhenLatestIsGoneOrWrong) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20}) save_sample(folder.path(), step, step);
  fs::remove(folder / "latest");
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-00000020.h5");
  EXPECT_THAT(find_latest(folder.path()).passed_over,
              ElementsAre(HasSubstr("latest: there is no")));
  write_file(folder / "latest", "rubbish\n");
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-00000020.h5");
  EXPECT_THAT(find_latest(folder.path()).passed_over,
              ElementsAre(HasSubstr("names no checkpoint")));
  write_file(folder / "latest", "step-00000015.h5\n");
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-00000010.h5");
  EXPECT_THAT(find_latest(folder.path()).passed_over, ElementsAre(HasSubstr("step-00000015.h5")));
}

TEST(CheckpointFolder, DoesNotBeginAnewInSilence) {
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 10, 10);
  flip_bit(path, 4321);
  EXPECT_THAT(error_of(ErrorKind::data, [&] { find_latest(folder.path()); }),
              AllOf(HasSubstr("no checkpoint of the folder can be used"), HasSubstr("SHA-256")));
  fs::remove(path);
  error_of(ErrorKind::data, [&] { find_latest(folder.path()); });
}

TEST(CheckpointFolder, KeepsTheLatestAndTheOnesBeforeIt) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20, 30, 40}) save_sample(folder.path(), step, step);
  keep_last(folder.path(), 0);
  EXPECT_THAT(steps_in(folder.path()), ElementsAre(10, 20, 30, 40));
  keep_last(folder.path(), 3);
  EXPECT_THAT(steps_in(folder.path()), ElementsAre(20, 30, 40));
  EXPECT_FALSE(fs::exists(folder / "step-00000010.h5.manifest"));
  save_sample(folder.path(), 25, 25);  // after a resume from step 20
  keep_last(folder.path(), 2);
  EXPECT_THAT(steps_in(folder.path()), ElementsAre(20, 25));
  keep_last(folder.path(), 1);
  EXPECT_THAT(steps_in(folder.path()), ElementsAre(25));
  EXPECT_EQ(find_latest(folder.path()).path, folder / "step-00000025.h5");
}

TEST(CheckpointFolder, CountsOnlyCompleteCheckpointsAsKept) {
  const TemporaryFolder folder;
  for (const std::int64_t step : {10, 20, 30}) save_sample(folder.path(), step, step);
  fs::resize_file(folder / "step-00000020.h5", 100);
  keep_last(folder.path(), 2);
  EXPECT_THAT(steps_in(folder.path()), ElementsAre(10, 20, 30));
}

// ---- crashes

/// What is on disk after a kill between two actions of `write_checkpoint`, for each such place in
/// turn.
TEST(CheckpointCrash, LeavesALoadableLatestAtEveryPlace) {
  const TemporaryFolder source;
  const fs::path fresh = save_sample(source.path(), 20, 2);
  const TemporaryFolder folder;
  save_sample(folder.path(), 10, 1);
  const auto latest_is = [&](std::int64_t step, std::int64_t stamp) {
    const LatestCheckpoint latest = find_latest(folder.path());
    EXPECT_EQ(latest.path, folder / checkpoint_name(step));
    EXPECT_THAT(latest.passed_over, IsEmpty());
    EXPECT_EQ(load_bytes(latest.path), expected_bytes(stamp));
  };
  write_file(folder / "step-00000020.h5.partial", "half of an HDF5 file");
  latest_is(10, 1);
  write_file(folder / "step-00000020.h5.manifest.partial", "half of a man");
  latest_is(10, 1);
  fs::copy_file(manifest_of(fresh), folder / "step-00000020.h5.manifest");
  latest_is(10, 1);
  fs::copy_file(fresh, folder / "step-00000020.h5");
  latest_is(10, 1);
  FileDescriptor::create(folder / "latest.partial").write("step-0000");
  latest_is(10, 1);
  save_sample(folder.path(), 20, 2);
  latest_is(20, 2);
  EXPECT_THAT(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 5)
      << "two checkpoints, two manifests, latest, and nothing that a killed writer left";
}

TEST(CheckpointCrash, LeavesALoadableLatestWhileOneOfTheSameStepIsReplaced) {
  const TemporaryFolder source;
  const fs::path fresh = save_sample(source.path(), 10, 2);
  const TemporaryFolder folder;
  const fs::path path = save_sample(folder.path(), 10, 1);
  const std::vector<Fingerprint> both = {fingerprint_of(fresh), fingerprint_of(path)};
  write_manifest(path, both);
  EXPECT_EQ(load_bytes(find_latest(folder.path()).path), expected_bytes(1));
  fs::copy_file(fresh, path, fs::copy_options::overwrite_existing);
  EXPECT_EQ(load_bytes(find_latest(folder.path()).path), expected_bytes(2));
  save_sample(folder.path(), 10, 3);
  EXPECT_EQ(load_bytes(find_latest(folder.path()).path), expected_bytes(3));
  EXPECT_THAT(read_manifest(path), ElementsAre(fingerprint_of(path)));
}

/// Saves for ever: in even rounds a step further each time, in odd ones the same step again. Tells
/// the stamp of each finished checkpoint through the pipe.
[[noreturn]] void save_until_killed(const fs::path& folder, int round, std::int64_t step,
                                    std::int64_t stamp, int pipe) {
  try {
    while (true) {
      ++stamp;
      if (round % 2 == 0) ++step;
      save_sample(folder, step, stamp);
      if (::write(pipe, &stamp, sizeof stamp) != sizeof stamp) _exit(1);
      keep_last(folder, 2);
    }
  } catch (...) {
    _exit(1);
  }
}

TEST(CheckpointCrash, FiftyKillsWhileSavingLoseNothing) {
  const TemporaryFolder folder;
  std::int64_t step = 1;
  std::int64_t stamp = 1;
  const auto begin = std::chrono::steady_clock::now();
  save_sample(folder.path(), step, stamp);
  const std::chrono::duration<double> one_save = std::chrono::steady_clock::now() - begin;
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> saves_before_kill(0, 3);
  std::int64_t saves = 0;
  for (int round = 0; round < 50; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_until_killed(folder.path(), round, step, stamp, pipe_ends[1]);
    close(pipe_ends[1]);
    std::this_thread::sleep_for(saves_before_kill(random) * one_save);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    std::int64_t finished = stamp;
    for (std::int64_t told = 0; read(pipe_ends[0], &told, sizeof told) == sizeof told; ++saves) {
      finished = told;
    }
    close(pipe_ends[0]);

    const LatestCheckpoint latest = find_latest(folder.path());
    ASSERT_THAT(latest.passed_over, IsEmpty()) << "round " << round;
    const CheckpointHeader header = read_checkpoint_header(latest.path);
    ASSERT_GE(header.tokens_seen, finished) << "a finished checkpoint was lost in round " << round;
    ASSERT_EQ(load_bytes(latest.path), expected_bytes(header.tokens_seen)) << "round " << round;
    step = header.step;
    stamp = header.tokens_seen;
  }
  EXPECT_GT(saves, 10) << "too few saves between the kills to mean anything";
}

}  // namespace
}  // namespace longscan

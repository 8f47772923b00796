// Checkpoints: what a run needs to go on, in one HDF5 file that is there as a whole or not at all.
//
// clang-format off
// FOLDER/step-00000100.h5           attributes format_version, step, tokens_seen, vocabulary,
//                                   data_hash, configuration
//   /model/<parameter>                     f32 or f64, whole, in its own shape
//   /optimizer/first_moment/<parameter>    the same names and shapes
//   /optimizer/second_moment/<parameter>
//   /loader                                attributes epoch, window
//   /random                                attribute seed: all numbers are functions of it and step
// FOLDER/step-00000100.h5.manifest  size and SHA-256, checked before HDF5 opens the file
// FOLDER/latest                     the name of the newest checkpoint
// clang-format on
//
// Nothing here knows about ranks: one rank writes and every rank may read.
//
// HDF5 is told once, before its first use here, to do no work at the process's exit
// (H5dont_atexit). That holds for the whole process: a program that uses HDF5 itself closes its
// files before it ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace longscan {

/// A dense tensor in the CPU's memory under the name of its parameter ("layers.0.mlp.up.weight":
/// dots, no slashes).
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// Each entry's `name` and `tensor`, as those of a model's list of parameters.
template <class List>
std::vector<NamedTensor> named_tensors(const List& list) {
  std::vector<NamedTensor> tensors;
  for (const auto& entry : list) tensors.push_back({entry.name, entry.tensor});
  return tensors;
}

/// What a checkpoint says about one of its tensors.
struct StoredTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
};

/// Everything but the tensors.
struct CheckpointHeader {
  std::int64_t step = 0;         ///< optimizer steps taken
  std::int64_t tokens_seen = 0;  ///< targets trained on so far
  std::int64_t loader_epoch = 0;
  std::int64_t loader_window = 0;
  std::uint64_t seed = 0;
  std::string vocabulary;     ///< its name
  std::string data_hash;      ///< of the token store
  std::string configuration;  ///< the resolved one, as `to_text` writes it
};

struct CheckpointContents {
  CheckpointHeader header;
  std::vector<NamedTensor> model;
  std::vector<NamedTensor> first_moment;
  std::vector<NamedTensor> second_moment;
};

/// Writes FOLDER/step-<step>.h5, makes it the latest and returns its path. A checkpoint of the same
/// step is replaced. A kill at any moment leaves a latest checkpoint that loads: the one before or
/// this one. Throws io.
std::filesystem::path write_checkpoint(const std::filesystem::path& folder,
                                       const CheckpointContents& contents);

/// Whether a file is compared with its manifest, which reads it whole, or just has been.
enum class Verified { now, before };

/// Each of these verifies the file first, as `verify_checkpoint` does, unless that was done before.
CheckpointHeader read_checkpoint_header(const std::filesystem::path& path);
/// The parameters under /model, sorted by name.
std::vector<StoredTensor> list_parameters(const std::filesystem::path& path,
                                          Verified verified = Verified::now);
/// Fills the tensors from the checkpoint; the moments are left alone where their span is empty.
/// Throws data, before anything is changed, when a name is missing or too many or a shape or type
/// differs; data when a checksum is wrong.
void read_checkpoint(const std::filesystem::path& path, std::span<const NamedTensor> model,
                     std::span<const NamedTensor> first_moment = {},
                     std::span<const NamedTensor> second_moment = {},
                     Verified verified = Verified::now);

/// Fills some of the parameters: those of the checkpoint that are not asked for are left alone.
/// Otherwise as `read_checkpoint`.
void read_parameters(const std::filesystem::path& path, std::span<const NamedTensor> some,
                     Verified verified = Verified::now);

/// Throws missing when the file or its manifest is not there, data when the contents are not the
/// manifest's.
void verify_checkpoint(const std::filesystem::path& path);

}  // namespace longscan

// Checkpoints with contents that a test can tell from a number, and memory to read them back into.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "kernels/buffer.h"

namespace longscan {

/// Memory for parameters of different ranks and types, with their moments.
class SampleTensors {
 public:
  SampleTensors() {
    for (auto* group : {&model, &first_moment, &second_moment}) {
      add(*group, "embedding.weight", DType::f32, {370, 190});
      add(*group, "layers.0.attention.heads", DType::f32, {3, 4, 2});
      add(*group, "layers.0.norm.bias", DType::f64, {5});
    }
  }

  /// Neighbours get different values, and every one depends on `stamp` (below 2^22, so that f32
  /// holds it).
  void fill(std::int64_t stamp) {
    for (const Tensor& tensor : all()) {
      for (std::int64_t i = 0; i < tensor.size(); ++i) {
        const double value = static_cast<double>(stamp + i % 1000);
        if (tensor.dtype == DType::f32) {
          tensor.as<float>()[i] = static_cast<float>(value);
        } else {
          tensor.as<double>()[i] = value;
        }
      }
    }
  }

  /// All bytes, one tensor behind the other.
  std::string bytes() const {
    std::string bytes;
    for (const Tensor& tensor : all()) {
      bytes.append(static_cast<const char*>(tensor.data), static_cast<std::size_t>(tensor.bytes()));
    }
    return bytes;
  }

  std::vector<NamedTensor> model;
  std::vector<NamedTensor> first_moment;
  std::vector<NamedTensor> second_moment;

 private:
  void add(std::vector<NamedTensor>& group, const char* name, DType dtype,
           std::initializer_list<std::int64_t> shape) {
    std::int64_t bytes = size_of(dtype);
    for (const std::int64_t extent : shape) bytes *= extent;
    memory_.emplace_back(bytes);
    group.push_back({name, Tensor::dense(memory_.back().data(), dtype, shape)});
  }

  std::vector<Tensor> all() const {
    std::vector<Tensor> tensors;
    for (const auto* group : {&model, &first_moment, &second_moment}) {
      for (const NamedTensor& named : *group) tensors.push_back(named.tensor);
    }
    return tensors;
  }

  std::list<Buffer> memory_;
};

inline CheckpointHeader sample_header(std::int64_t step, std::int64_t stamp) {
  return {.step = step,
          .tokens_seen = stamp,
          .loader_epoch = 3,
          .loader_window = 17,
          .seed = 0xFEDCBA9876543210,
          .vocabulary = "protein",
          .data_hash = "0123abcd",
          .configuration = "model {\n  width: 96\n}\n"};
}

/// Saves a checkpoint of `step` all of whose numbers follow from `stamp`.
inline std::filesystem::path save_sample(const std::filesystem::path& folder, std::int64_t step,
                                         std::int64_t stamp) {
  SampleTensors tensors;
  tensors.fill(stamp);
  return write_checkpoint(folder, {.header = sample_header(step, stamp),
                                   .model = tensors.model,
                                   .first_moment = tensors.first_moment,
                                   .second_moment = tensors.second_moment});
}

/// The bytes of all tensors of a checkpoint.
inline std::string load_bytes(const std::filesystem::path& path) {
  SampleTensors tensors;
  read_checkpoint(path, tensors.model, tensors.first_moment, tensors.second_moment);
  return tensors.bytes();
}

/// The bytes of all tensors that belong to `stamp`.
inline std::string expected_bytes(std::int64_t stamp) {
  SampleTensors tensors;
  tensors.fill(stamp);
  return tensors.bytes();
}

}  // namespace longscan

// The parameters of a model: one flat buffer with named views. Gradients and moments are further
// objects of this type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "model/options.h"

namespace longscan {

struct NormWeights {
  Tensor weight;  ///< [width]
  Tensor bias;    ///< [width]; absent for RMSNorm
};

struct AttentionWeights {
  NormWeights norm;
  Tensor query_key_value_weight;  ///< [3 * width, width]: the rows of query, then key, then value
  Tensor query_key_value_bias;    ///< [3 * width]
  Tensor output_weight;           ///< [width, width]
  Tensor output_bias;             ///< [width]
  /// Linformer's E and F, [rows, longest_document]: rows of each head in turn when every head has
  /// its own, else projected_length rows for all. The same tensor where keys and values share one.
  Tensor linformer_key;
  Tensor linformer_value;
};

struct MlpWeights {
  NormWeights norm;
  Tensor up_weight;  ///< [hidden, width]; [2 * hidden, width] for SwiGLU: the rows of gate, then up
  Tensor up_bias;    ///< [hidden] or [2 * hidden]
  Tensor down_weight;  ///< [width, hidden]
  Tensor down_bias;    ///< [width]
};

struct LayerWeights {
  AttentionWeights attention;
  MlpWeights mlp;
};

struct Weights {
  Tensor embedding;  ///< [vocabulary, width]
  Tensor positions;  ///< [longest_document, width]; absent unless learned
  std::vector<LayerWeights> layers;
  NormWeights norm;  ///< before the head
  Tensor head;       ///< [vocabulary, width]; the embedding itself when tied
};

/// A parameter by its name in checkpoints, such as `layers.0.attention.query_key_value.weight`.
struct Parameter {
  std::string name;
  Tensor tensor;
};

enum class ParameterUse {
  products,  ///< a model computes with them: in bf16 the matrices have copies in it
  sums,      ///< gradients and moments
};

class Parameters {
 public:
  /// Zeros. Throws usage when the options are out of range. `device` must outlive the object.
  Parameters(const ModelOptions& options, Device& device,
             ParameterUse use = ParameterUse::products);

  /// What a model computes with: where it does so in bf16 the matrices are the copies that `round`
  /// makes. Else, and of sums, the parameters themselves.
  const Weights& weights() const { return weights_; }
  /// All parameters, in the memory of the device, in the order of the buffer. Matrices come first:
  /// decay applies to [0, decayed()).
  const std::vector<Parameter>& list() const { return list_; }
  /// The whole buffer, [count].
  Tensor flat() const { return flat_; }
  /// Elements at the front of the buffer that weight decay applies to: those of matrices.
  std::int64_t decayed() const { return decayed_; }

  /// The copies of the first decayed() parameters in bf16, or absent.
  Tensor rounded() const { return rounded_; }
  /// Makes the copies those of the parameters, after these have been written.
  void round() const;
  /// Fills the whole buffer from host memory, [count] of its type, and rounds.
  void upload(const void* numbers) const;

  Device& device() const { return *device_; }

  /// Draws initial values: normal with deviation 0.02 for matrices, divided by sqrt(2 * layers) for
  /// those that write to the residual stream (Radford et al. 2019), 1 / sqrt(projected_length) for
  /// Linformer's (Wang et al. 2020, theorem 1); ones for norm weights; zeros for biases. Each
  /// element is a function of (seed, its parameter's name, its index).
  void initialize(std::uint64_t seed);

 private:
  template <class T>
  void draw(std::uint64_t seed, T* next) const;

  Device* device_;
  Buffer buffer_;
  Tensor flat_;
  Buffer rounded_memory_;
  Tensor rounded_;
  std::int64_t decayed_ = 0;
  Weights weights_;
  std::vector<Parameter> list_;
  std::vector<double> deviations_;  // of the initial values; those of vectors mean nothing
};

/// Number of elements of all parameters.
std::int64_t count_parameters(const ModelOptions& options);

}  // namespace longscan

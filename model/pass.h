// What all layers share while a shard of the line goes through them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "kernels/arena.h"
#include "kernels/device.h"
#include "kernels/random.h"
#include "model/options.h"

namespace longscan {

/// One rank's tokens of one segment of the line, in host memory that outlives the step. All spans
/// but document_starts have one entry a token (attended may have none); a shard may be empty.
struct Shard {
  std::span<const std::int32_t> tokens;
  std::span<const std::int32_t> targets;    ///< the token to predict, or -1: none
  std::span<const std::int64_t> positions;  ///< offset within the document
  std::span<const std::int64_t>
      document_starts;           ///< ascending local indices of documents' first tokens
  std::int64_t first_token = 0;  ///< index of the first token in the step's line
  /// 0 where nobody attends to the token; empty: all are attended to. All shards with tokens have
  /// it, or none has.
  std::span<const std::uint8_t> attended = {};

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
};

/// Dropout of one line: which random numbers, and how many elements are dropped.
struct DropoutPlan {
  double rate = 0;  ///< 0: evaluation, or a model without dropout
  std::uint64_t seed = 0;
  std::uint64_t line = 0;  ///< counts the lines of the training run
};

/// A shard in the memory of a device.
struct ShardTensors {
  Tensor tokens;           ///< [tokens] i32
  Tensor targets;          ///< [tokens] i32
  Tensor positions;        ///< [tokens] i64
  Tensor document_starts;  ///< [documents] i64
  Tensor attended;         ///< [tokens] u8, or [0]
  Tensor key_mask;         ///< attended, absent where there is none
  /// [tokens] i64: the place in the line where each token's document begins; absent unless a layer
  /// has exact softmax.
  Tensor document;
};

/// On the CPU views of the shard, else copies in the arena's memory.
ShardTensors tensors_of(const Shard& shard, const ModelOptions& options, Device& device,
                        Arena& arena);

/// [1] i64, in the arena's memory: where the random numbers of this line's dropout begin, behind
/// which every place in the model that drops has a step of its own.
Tensor dropout_step_of(const DropoutPlan& dropout, const ModelOptions& options, Device& device,
                       Arena& arena);

struct AttentionHeads;
struct AttentionLink;
struct AttentionWeights;
struct Pass;

/// Is shown what a layer has attended with, right behind its attention.
using AttentionObserver = std::function<void(Pass&, const AttentionWeights&, const AttentionHeads&,
                                             const AttentionLink&)>;

/// One visit of a shard: forward, and perhaps backward over the same activations.
struct Pass {
  Device& device;
  Arena& arena;
  const ModelOptions& options;
  const Shard& shard;
  ShardTensors line;  ///< the shard on the device
  DropoutPlan dropout;
  Tensor dropout_step;          ///< as dropout_step_of makes it; absent where the rate is 0
  Tensor rotary_table;          ///< [tokens, head_dim]; absent unless positions are rotary
  bool differentiates = false;  ///< backward follows
  bool generates = false;       ///< tokens will follow that see those of the shard
  const AttentionObserver* observer = nullptr;

  std::int64_t tokens() const { return shard.size(); }
  Tensor take(std::int64_t columns) const { return arena.take(options.dtype, {tokens(), columns}); }
  /// The same of what must not be rounded to bf16.
  Tensor take_sums(std::int64_t columns) const {
    return arena.take(sum_type(options.dtype), {tokens(), columns});
  }

  /// A tensor over a span, in host memory. Operations take inputs and outputs alike as Tensor;
  /// those of a shard are inputs.
  template <class T>
  static Tensor view_of(std::span<const T> values) {
    return Tensor::dense(const_cast<T*>(values.data()), DTypeOf<T>::value,
                         {static_cast<std::int64_t>(values.size())});
  }

  // Dropout sites: 0 is the embedding, then two a layer.
  static std::int64_t attention_site(std::size_t layer) {
    return 1 + 2 * static_cast<std::int64_t>(layer);
  }
  static std::int64_t mlp_site(std::size_t layer) { return attention_site(layer) + 1; }
  /// out = dropout(in), which may be the same; `site` numbers the places in the model where that
  /// happens.
  void drop(const Tensor& out, const Tensor& in, std::int64_t site) const;
};

}  // namespace longscan

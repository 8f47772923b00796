// Linear attention (Katharopoulos et al. 2020, "Transformers are RNNs"; Choromanski et al. 2020,
// "Rethinking Attention with Performers"): states, outputs, gradients.
//
// With phi the feature map and v~ = [v, 1]:  S_i = sum over j of phi(k_j) v~_j^T, where j are the
// tokens of i's document that i sees: j <= i (causal), or all. Numerator and normaliser are the
// columns of phi(q_i)^T S_i; out_i = numerator / normaliser. With g~_i = [d_out_i, -(d_out_i .
// out_i)] / normaliser_i and R_i = sum over the tokens j that see i of phi(q_j) g~_j^T:
// d phi(q_i) = S_i g~_i;  d phi(k_i) = R_i v~_i;  d v_i = the first value_dim entries of R_i^T
// phi(k_i).
//
// All that a shard of the line needs of the tokens around it are such sums, S forward and R
// backward: states [heads, features, value_dim + 1], the last column belonging to the normaliser.
// Those of exponential maps have one column more, the exponent c of each feature: the sums are the
// other columns times e^c, and c = -infinity where there are none. A document start cuts.
//
// Exponentials neither overflow nor vanish: every feature's exponents are taken relative to the
// largest that the document's keys have had so far (to the largest of all where attention is not
// causal), and every query's to its own largest product. A chunk within which an exponent rises
// too far is cut there, so that no token's result depends on keys behind it.
#pragma once

#include "kernels/feature_map.h"

namespace longscan {

class Cpu;
class Cuda;

/// What every operation here works on. A shard may have no tokens.
struct LinearAttentionInput {
  Tensor query;  ///< [tokens, heads, dim], f32, f64 or bf16; gaps between tokens are allowed
  Tensor key;    ///< [tokens, heads, dim]
  Tensor value;  ///< [tokens, heads, value_dim]
  /// [count] i64, ascending indices of tokens in [0, tokens) that begin a document; absent or empty
  /// when none does.
  Tensor document_starts;
  Tensor
      key_mask;  ///< [tokens] u8, 0 where nobody attends to the token; absent: all are attended to
  FeatureMap feature_map;
  bool causal = true;
};

/// Tokens of a shard that share their document with what is outside of it.
enum class ShardSide {
  front,  ///< those before the first document start: with the shards before
  back,   ///< those from the last document start on: with the shards behind
};        ///< (all tokens where no document starts)

/// Tokens between two states that forward leaves for backward. At 64 dimensions and features they
/// take a sixteenth of the memory of query, key, value and out in bf16, at 256 features a quarter;
/// what lies between is at hand to be read twice.
constexpr std::int64_t kCheckpointTokens = 512;
constexpr std::int64_t checkpoints_of(std::int64_t tokens) {
  return (tokens + kCheckpointTokens - 1) / kCheckpointTokens;
}

/// state = S of the tokens of one side. query is not used and may be absent.
struct LinearAttentionSum {
  Tensor state;
  LinearAttentionInput input;
  ShardSide side = ShardSide::back;
  void check() const;
};
void execute(Cpu&, const LinearAttentionSum&);
void execute(Cuda&, const LinearAttentionSum&);

/// out and normaliser of every token; a token that sees no key gets zeros. Tokens of the front also
/// attend to `state_before`, those of the back to `state_behind`.
struct LinearAttention {
  Tensor out;         ///< [tokens, heads, value_dim]
  Tensor normalizer;  ///< [tokens, heads], kept for backward; of exponential maps its logarithm
  LinearAttentionInput input;
  /// [checkpoints_of(tokens) * heads, features, columns]: S before every kCheckpointTokens-th
  /// token, for backward; absent where attention is not causal, or where backward will do without.
  /// The CPU leaves them alone: it sums up anew.
  Tensor checkpoints = {};
  Tensor state_before;  ///< S of what precedes the shard; absent: nothing does
  Tensor state_behind;  ///< S of what follows it; absent where causal
  void check() const;
};
void execute(Cpu&, const LinearAttention&);
void execute(Cuda&, const LinearAttention&);

/// One more token at constant cost, for generation: state += phi(k) v~^T, then out from the state.
struct LinearAttentionStep {
  Tensor out;                  ///< [1, heads, value_dim]
  Tensor state;                ///< in and out
  LinearAttentionInput input;  ///< of one token
  void check() const;
};
void execute(Cpu&, const LinearAttentionStep&);
void execute(Cuda&, const LinearAttentionStep&);

/// What the outputs hand back.
struct LinearAttentionGradient {
  Tensor d_out;       ///< [tokens, heads, value_dim]
  Tensor out;         ///< as LinearAttention left it
  Tensor normalizer;  ///< as LinearAttention left it
};

/// state = R of the tokens of one side. key and value are not used and may be absent.
struct LinearAttentionGradientSum {
  Tensor state;
  LinearAttentionInput input;
  LinearAttentionGradient gradient;
  ShardSide side = ShardSide::front;
  void check() const;
};
void execute(Cpu&, const LinearAttentionGradientSum&);
void execute(Cuda&, const LinearAttentionGradientSum&);

/// Gradients of query, key and value, which must not overlap with what they are the gradients of. S
/// is that of forward; R comes from the tokens that see the
/// shard's: from behind it, and where attention is not causal also from before it.
struct LinearAttentionBackward {
  Tensor d_query;
  Tensor d_key;
  Tensor d_value;
  LinearAttentionInput input;
  LinearAttentionGradient gradient;
  Tensor checkpoints = {};  ///< as LinearAttention left them; absent: S is summed up anew
  Tensor state_before;      ///< S, as in LinearAttention
  Tensor state_behind;      ///< S, as in LinearAttention
  Tensor gradients_before;  ///< R of what precedes the shard; absent where causal
  Tensor gradients_behind;  ///< R of what follows it; absent: nothing does
  void check() const;
};
void execute(Cpu&, const LinearAttentionBackward&);
void execute(Cuda&, const LinearAttentionBackward&);

}  // namespace longscan

// Causal linear attention (Katharopoulos et al. 2020, "Transformers are RNNs"): states, outputs,
// gradients.
//
// With phi the feature map and v~ = [v, 1]:  S_i = sum over j <= i of phi(k_j) v~_j^T, j in the
// document of i; numerator and normaliser are the columns of phi(q_i)^T S_i; out_i = numerator /
// normaliser. With g~_i = [d_out_i, -(d_out_i . out_i)] / normaliser_i and R_i = sum over j >= i of
// phi(q_j) g~_j^T: d phi(q_i) = S_i g~_i;  d phi(k_i) = R_i v~_i;  d v_i = the first value_dim
// entries of R_i^T phi(k_i).
//
// A line's shard needs of the tokens before it only their state S, and of those behind it only R;
// both are [heads, features, value_dim + 1], the last column belonging to the normaliser. A
// document start resets S.
//
// Common shapes: query, key [tokens, heads, dim]; value, out, d_out [tokens, heads, value_dim]; all
// f32 or all f64; gaps between tokens are allowed. features = dim for the maps here.
// document_starts: [count] i64, ascending indices of tokens in [0, tokens) that begin a document;
// absent or empty when none does. A shard may have no tokens.
#pragma once

#include "kernels/tensor.h"

namespace longscan {

class Cpu;

/// The map phi of queries and keys. A further kind is one more enumerator and one more case in each
/// backend.
enum class FeatureMap {
  elu1,  ///< x + 1 for x > 0, else e^max(x, -41) (eq. 7 of the paper, kept away from 0 / 0 in fp32)
};

/// state = S of the tokens since the last document start (all of them when there is none).
struct LinearAttentionSum {
  Tensor state;
  Tensor key;
  Tensor value;
  Tensor document_starts;
  FeatureMap feature_map = FeatureMap::elu1;
  void check() const;
};
void execute(Cpu&, const LinearAttentionSum&);

/// out and normaliser of every token; tokens before the first document start also attend to
/// `state_before`.
struct LinearAttention {
  Tensor out;
  Tensor normalizer;  ///< [tokens, heads], kept for backward
  Tensor query;
  Tensor key;
  Tensor value;
  Tensor state_before;  ///< S of what precedes the shard; absent: nothing does
  Tensor document_starts;
  FeatureMap feature_map = FeatureMap::elu1;
  void check() const;
};
void execute(Cpu&, const LinearAttention&);

/// One more token at constant cost, for generation: state += phi(k) v~^T, then out from the state.
struct LinearAttentionStep {
  Tensor out;    ///< [1, heads, value_dim]
  Tensor state;  ///< in and out
  Tensor query;  ///< [1, heads, dim], as are key and value
  Tensor key;
  Tensor value;
  FeatureMap feature_map = FeatureMap::elu1;
  void check() const;
};
void execute(Cpu&, const LinearAttentionStep&);

/// state = R of the tokens before the first document start (all of them when there is none).
struct LinearAttentionGradientSum {
  Tensor state;
  Tensor query;
  Tensor d_out;
  Tensor out;
  Tensor normalizer;
  Tensor document_starts;
  FeatureMap feature_map = FeatureMap::elu1;
  void check() const;
};
void execute(Cpu&, const LinearAttentionGradientSum&);

/// d_query, which looks back: it needs `state_before`, not what comes after the shard.
struct LinearAttentionBackwardQuery {
  Tensor d_query;
  Tensor d_out;
  Tensor out;
  Tensor normalizer;
  Tensor query;
  Tensor key;
  Tensor value;
  Tensor state_before;  ///< as in LinearAttention
  Tensor document_starts;
  FeatureMap feature_map = FeatureMap::elu1;
  void check() const;
};
void execute(Cpu&, const LinearAttentionBackwardQuery&);

/// d_key and d_value, which look ahead: tokens from the last document start on also receive from
/// `state_after`.
struct LinearAttentionBackwardKeyValue {
  Tensor d_key;
  Tensor d_value;
  Tensor d_out;
  Tensor out;
  Tensor normalizer;
  Tensor query;
  Tensor key;
  Tensor value;
  Tensor state_after;  ///< R of what follows the shard; absent: nothing does
  Tensor document_starts;
  FeatureMap feature_map = FeatureMap::elu1;
  void check() const;
};
void execute(Cpu&, const LinearAttentionBackwardKeyValue&);

}  // namespace longscan

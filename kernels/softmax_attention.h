// Exact softmax attention (Vaswani et al. 2017, "Attention Is All You Need", eq. 1), the baseline:
// time grows with the square of a document, memory does not.
//
// out_i = sum over j of p_ij v_j with p_ij = e^(q_i . k_j / sqrt(dim)) / sum over j of the same,
// where j are the tokens of i's document that i sees: j <= i (causal), or all.
//
// Keys and values come block by block, from this shard of the line or from another one: every
// operation here is between the queries of one shard and the keys of one, and adds to what earlier
// blocks have left. Softmax needs no second look at them (online softmax: Milakov and Gimelshein
// 2018; over blocks: Dao et al. 2022, "FlashAttention", algorithm 1): with L_i = log of the
// denominator so far, out_i of two sets of keys is their mean with weights e^(L_i).
//
// Who sees whom follows from places in the line, of which every token knows its own and where its
// document begins.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// Tokens that follow each other in the line: the first is token `first_token` of it.
struct LineBlock {
  std::int64_t first_token = 0;
  Tensor document;  ///< [tokens] i64, ascending: the place in the line where the document begins
};

/// Who attends.
struct SoftmaxQueries {
  Tensor query;  ///< [tokens, heads, dim], f32, f64 or bf16; gaps between tokens are allowed
  LineBlock block;
};

/// Who is attended to. Either side may have no tokens.
struct SoftmaxKeys {
  Tensor key;    ///< [keys, heads, dim]
  Tensor value;  ///< [keys, heads, dim]
  LineBlock block;
  /// [keys] u8, 0 where nobody attends to the key, whatever stands there; absent: all are attended
  /// to
  Tensor key_mask;
};

/// out and log_sum, which hold what the queries have got of other keys so far, take these in.
/// Before the first ones log_sum is -infinity, and out is not read. Queries that have seen no key
/// have out 0 and log_sum -infinity.
struct SoftmaxAttention {
  Tensor out;      ///< [tokens, heads, dim], in and out
  Tensor log_sum;  ///< [tokens, heads], in and out: L
  SoftmaxQueries queries;
  SoftmaxKeys keys;
  bool causal = true;
  void check() const;
};
void execute(Cpu&, const SoftmaxAttention&);
void execute(Cuda&, const SoftmaxAttention&);

/// dot_ih = sum over d of a_ihd b_ihd: of d_out and out, what the gradient of a softmax subtracts.
struct HeadDot {
  Tensor dot;  ///< [tokens, heads]
  Tensor a;    ///< [tokens, heads, dim], f32, f64 or bf16; gaps between tokens are allowed
  Tensor b;    ///< [tokens, heads, dim]
  void check() const;
};
void execute(Cpu&, const HeadDot&);
void execute(Cuda&, const HeadDot&);

/// What the outputs hand back.
struct SoftmaxGradient {
  Tensor d_out;      ///< [tokens, heads, dim]
  Tensor log_sum;    ///< [tokens, heads], of all keys
  Tensor d_out_dot;  ///< [tokens, heads]: HeadDot of d_out and the out of all keys
};

/// d_query_i += sum over j of s_ij k_j, with s_ij = p_ij (d_out_i . v_j - d_out_dot_i) / sqrt(dim).
struct SoftmaxAttentionBackwardQuery {
  Tensor d_query;  ///< [tokens, heads, dim], in and out
  SoftmaxQueries queries;
  SoftmaxKeys keys;
  SoftmaxGradient gradient;
  bool causal = true;
  void check() const;
};
void execute(Cpu&, const SoftmaxAttentionBackwardQuery&);
void execute(Cuda&, const SoftmaxAttentionBackwardQuery&);

/// d_key_j += sum over i of s_ij q_i, d_value_j += sum over i of p_ij d_out_i.
struct SoftmaxAttentionBackwardKeyValue {
  Tensor d_key;    ///< [keys, heads, dim], in and out
  Tensor d_value;  ///< [keys, heads, dim], in and out
  SoftmaxQueries queries;
  SoftmaxKeys keys;
  SoftmaxGradient gradient;
  bool causal = true;
  void check() const;
};
void execute(Cpu&, const SoftmaxAttentionBackwardKeyValue&);
void execute(Cuda&, const SoftmaxAttentionBackwardKeyValue&);

}  // namespace longscan

// Linformer (Wang et al. 2020, "Linformer: Self-Attention with Linear Complexity"): attention to k
// projected keys and values a document instead of its n own.
//
// With E, F [k, n] and column p for the token at place p of its document:  EK = sum over the
// document's tokens of E[:, p] key_p^T, FV the same of F and values; head = softmax(Q EK^T /
// sqrt(dim)) FV. A shorter document uses the first columns. The projection mixes all places before
// anybody attends, so it cannot be causal.
//
// [EK, FV] is all that a shard of the line needs of a document's tokens elsewhere: sums over
// tokens, [heads, k, 2 * dim], a row holding a projected key and, beside it, the projected value.
// Backward the gradients of both are sums over the document's queries, of the same shape.
// Operations here make these sums of a shard's own tokens, one for each of its documents, and take
// those of whole documents.
#pragma once

#include "kernels/tensor.h"

namespace longscan {

class Cpu;
class Cuda;

/// Documents that have tokens in a shard of `tokens` tokens. document_starts: [count] i64 on the
/// host, ascending indices of tokens in [0, tokens) that begin a document; absent or empty when
/// none does.
std::int64_t count_documents(std::int64_t tokens, const Tensor& document_starts);

/// What is projected. A shard may have no tokens. Operations on it throw data where a document is
/// longer than n.
struct LinformerKeys {
  Tensor key;    ///< [tokens, heads, dim], f32, f64 or bf16; gaps between tokens are allowed
  Tensor value;  ///< [tokens, heads, dim]
  /// E, [rows, n]: rows = heads * k, head after head, or k for all heads. May be value_projection.
  Tensor key_projection;
  Tensor value_projection;  ///< F, [rows, n]
  Tensor
      position;  ///< [tokens] i64, offsets within the document: each one more than that before it
  Tensor document_starts;
  Tensor key_mask;  ///< [tokens] u8, 0 where the token enters no sum; absent: all do
};

/// projected = [EK, FV] of the tokens here, document after document. Throws data where a document
/// is longer than n.
struct LinformerProject {
  Tensor projected;  ///< [documents * heads, k, 2 * dim]
  LinformerKeys keys;
  void check() const;
};
void execute(Cpu&, const LinformerProject&);
void execute(Cuda&, const LinformerProject&);

/// The sums to attend to and who does.
struct LinformerQueries {
  Tensor query;      ///< [tokens, heads, dim], f32, f64 or bf16; gaps between tokens are allowed
  Tensor projected;  ///< [documents * heads, k, 2 * dim]: [EK, FV] of whole documents
  Tensor document_starts;
};

/// out and, for backward, the logarithm of each softmax's denominator.
struct LinformerAttend {
  Tensor out;      ///< [tokens, heads, dim]
  Tensor log_sum;  ///< [tokens, heads]
  LinformerQueries queries;
  void check() const;
};
void execute(Cpu&, const LinformerAttend&);
void execute(Cuda&, const LinformerAttend&);

/// What the outputs hand back.
struct LinformerGradient {
  Tensor d_out;    ///< [tokens, heads, dim]
  Tensor out;      ///< as LinformerAttend left it
  Tensor log_sum;  ///< as LinformerAttend left it
};

/// d_projected = [d EK, d FV] from the queries here, document after document. With P the softmax,
/// S = P o (d_out FV^T - (d_out . out)) / sqrt(dim):  d EK = S^T Q, d FV = P^T d_out.
struct LinformerBackwardProjected {
  Tensor d_projected;  ///< as projected
  LinformerQueries queries;
  LinformerGradient gradient;
  void check() const;
};
void execute(Cpu&, const LinformerBackwardProjected&);
void execute(Cuda&, const LinformerBackwardProjected&);

/// d_query = S EK.
struct LinformerBackwardQuery {
  Tensor d_query;
  LinformerQueries queries;
  LinformerGradient gradient;
  void check() const;
};
void execute(Cpu&, const LinformerBackwardQuery&);
void execute(Cuda&, const LinformerBackwardQuery&);

/// d_key_p = d EK^T E[:, p] and d E[:, p] += d EK key_p, the sum over documents and over heads that
/// share E; the same of values and F. Tokens that entered no sum get zeros.
struct LinformerBackwardKeys {
  Tensor d_key;
  Tensor d_value;
  Tensor d_key_projection;
  Tensor d_value_projection;  ///< may be d_key_projection, which then gets both
  LinformerKeys keys;
  Tensor d_projected;  ///< [d EK, d FV] of whole documents
  void check() const;
};
void execute(Cpu&, const LinformerBackwardKeys&);
void execute(Cuda&, const LinformerBackwardKeys&);

}  // namespace longscan

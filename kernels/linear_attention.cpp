// The contracts of linear attention.
#include "kernels/linear_attention.h"

namespace longscan {

namespace {

// The shapes of one call, named by the operation they belong to.
struct Contract {
  const Tensor& query;
  std::int64_t value_dim;

  void per_head(const char* operand, const Tensor& tensor, std::int64_t dim) const {
    require_dtype(operand, tensor, query.dtype);
    require_shape(operand, tensor, {query.shape[0], query.shape[1], dim});
  }
  void queries(const char* operand, const Tensor& tensor) const {
    per_head(operand, tensor, query.shape[2]);
  }
  void values(const char* operand, const Tensor& tensor) const {
    per_head(operand, tensor, value_dim);
  }
  void normalizer(const char* operand, const Tensor& tensor) const {
    require_dtype(operand, tensor, query.dtype);
    require_shape(operand, tensor, {query.shape[0], query.shape[1]});
  }
  void state(const char* operand, const Tensor& tensor) const {
    require_dtype(operand, tensor, query.dtype);
    require_shape(operand, tensor, {query.shape[1], query.shape[2], value_dim + 1});
    require_dense(operand, tensor);
  }
  void optional_state(const char* operand, const Tensor& tensor) const {
    if (tensor.present()) state(operand, tensor);
  }
  static void starts(const char* operand, const Tensor& tensor) {
    if (!tensor.present()) return;
    require_dtype(operand, tensor, DType::i64);
    require_shape(operand, tensor, {tensor.shape[0]});
  }
};

Contract contract_of(const char* operation, const Tensor& query, const Tensor& value) {
  require(query.rank == 3 && value.rank == 3, operation, "works on [tokens, heads, dim]");
  return {query, value.shape[2]};
}

}  // namespace

void LinearAttentionSum::check() const {
  const Contract contract = contract_of("LinearAttentionSum", key, value);
  contract.state("LinearAttentionSum.state", state);
  contract.queries("LinearAttentionSum.key", key);
  contract.values("LinearAttentionSum.value", value);
  Contract::starts("LinearAttentionSum.document_starts", document_starts);
}

void LinearAttention::check() const {
  const Contract contract = contract_of("LinearAttention", query, value);
  contract.values("LinearAttention.out", out);
  contract.normalizer("LinearAttention.normalizer", normalizer);
  contract.queries("LinearAttention.query", query);
  contract.queries("LinearAttention.key", key);
  contract.values("LinearAttention.value", value);
  contract.optional_state("LinearAttention.state_before", state_before);
  Contract::starts("LinearAttention.document_starts", document_starts);
}

void LinearAttentionStep::check() const {
  const Contract contract = contract_of("LinearAttentionStep", query, value);
  require(query.shape[0] == 1, "LinearAttentionStep", "takes one token");
  contract.values("LinearAttentionStep.out", out);
  contract.state("LinearAttentionStep.state", state);
  contract.queries("LinearAttentionStep.query", query);
  contract.queries("LinearAttentionStep.key", key);
  contract.values("LinearAttentionStep.value", value);
}

void LinearAttentionGradientSum::check() const {
  const Contract contract = contract_of("LinearAttentionGradientSum", query, d_out);
  contract.state("LinearAttentionGradientSum.state", state);
  contract.queries("LinearAttentionGradientSum.query", query);
  contract.values("LinearAttentionGradientSum.d_out", d_out);
  contract.values("LinearAttentionGradientSum.out", out);
  contract.normalizer("LinearAttentionGradientSum.normalizer", normalizer);
  Contract::starts("LinearAttentionGradientSum.document_starts", document_starts);
}

void LinearAttentionBackwardQuery::check() const {
  const Contract contract = contract_of("LinearAttentionBackwardQuery", query, value);
  contract.queries("LinearAttentionBackwardQuery.d_query", d_query);
  contract.values("LinearAttentionBackwardQuery.d_out", d_out);
  contract.values("LinearAttentionBackwardQuery.out", out);
  contract.normalizer("LinearAttentionBackwardQuery.normalizer", normalizer);
  contract.queries("LinearAttentionBackwardQuery.query", query);
  contract.queries("LinearAttentionBackwardQuery.key", key);
  contract.values("LinearAttentionBackwardQuery.value", value);
  contract.optional_state("LinearAttentionBackwardQuery.state_before", state_before);
  Contract::starts("LinearAttentionBackwardQuery.document_starts", document_starts);
}

void LinearAttentionBackwardKeyValue::check() const {
  const Contract contract = contract_of("LinearAttentionBackwardKeyValue", query, value);
  contract.queries("LinearAttentionBackwardKeyValue.d_key", d_key);
  contract.values("LinearAttentionBackwardKeyValue.d_value", d_value);
  contract.values("LinearAttentionBackwardKeyValue.d_out", d_out);
  contract.values("LinearAttentionBackwardKeyValue.out", out);
  contract.normalizer("LinearAttentionBackwardKeyValue.normalizer", normalizer);
  contract.queries("LinearAttentionBackwardKeyValue.query", query);
  contract.queries("LinearAttentionBackwardKeyValue.key", key);
  contract.values("LinearAttentionBackwardKeyValue.value", value);
  contract.optional_state("LinearAttentionBackwardKeyValue.state_after", state_after);
  Contract::starts("LinearAttentionBackwardKeyValue.document_starts", document_starts);
}

}  // namespace longscan

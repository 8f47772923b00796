// The contracts of exact softmax attention.
#include "kernels/softmax_attention.h"

#include <string>

namespace longscan {

namespace {

// The shapes of one call; messages name the operation and the operand.
class Contract {
 public:
  /// `query` and `key`, [tokens, heads, dim], give the numbers of both sides' tokens.
  Contract(const char* operation, const Tensor& query, const Tensor& key)
      : operation_(operation), query_(query), key_(key) {
    require_float(operation, query);
    require(query.rank == 3 && key.rank == 3, operation, "works on [tokens, heads, dim]");
    require(query.shape[2] > 0, operation, "has dim of at least 1");
  }

  void of_queries(const char* operand, const Tensor& tensor) const {
    tokens(operand, tensor, query_.shape[0]);
  }
  void of_keys(const char* operand, const Tensor& tensor) const {
    tokens(operand, tensor, key_.shape[0]);
  }
  void number(const char* operand, const Tensor& tensor) const {
    require_operand(name(operand).c_str(), tensor, sum_type(query_.dtype),
                    {query_.shape[0], query_.shape[1]});
  }
  void queries(const SoftmaxQueries& queries) const {
    of_queries("query", queries.query);
    document("queries.block.document", queries.block, query_.shape[0]);
  }
  void keys(const SoftmaxKeys& keys) const {
    of_keys("key", keys.key);
    of_keys("value", keys.value);
    document("keys.block.document", keys.block, key_.shape[0]);
    if (!keys.key_mask.present()) return;
    require_operand(name("key_mask").c_str(), keys.key_mask, DType::u8, {key_.shape[0]});
  }
  void gradient(const SoftmaxGradient& gradient) const {
    of_queries("d_out", gradient.d_out);
    number("log_sum", gradient.log_sum);
    number("d_out_dot", gradient.d_out_dot);
  }

 private:
  std::string name(const char* operand) const { return std::string(operation_) + "." + operand; }
  void tokens(const char* operand, const Tensor& tensor, std::int64_t count) const {
    require_dtype(name(operand).c_str(), tensor, query_.dtype);
    require_shape(name(operand).c_str(), tensor, {count, query_.shape[1], query_.shape[2]});
  }
  void document(const char* operand, const LineBlock& block, std::int64_t count) const {
    require_operand(name(operand).c_str(), block.document, DType::i64, {count});
  }

  const char* operation_;
  const Tensor& query_;
  const Tensor& key_;
};

}  // namespace

void SoftmaxAttention::check() const {
  const Contract contract("SoftmaxAttention", queries.query, keys.key);
  contract.of_queries("out", out);
  contract.number("log_sum", log_sum);
  contract.queries(queries);
  contract.keys(keys);
}

void HeadDot::check() const {
  const Contract contract("HeadDot", a, b);
  contract.number("dot", dot);
  contract.of_queries("a", a);
  contract.of_queries("b", b);
}

void SoftmaxAttentionBackwardQuery::check() const {
  const Contract contract("SoftmaxAttentionBackwardQuery", queries.query, keys.key);
  contract.of_queries("d_query", d_query);
  contract.queries(queries);
  contract.keys(keys);
  contract.gradient(gradient);
}

void SoftmaxAttentionBackwardKeyValue::check() const {
  const Contract contract("SoftmaxAttentionBackwardKeyValue", queries.query, keys.key);
  contract.of_keys("d_key", d_key);
  contract.of_keys("d_value", d_value);
  contract.queries(queries);
  contract.keys(keys);
  contract.gradient(gradient);
}

}  // namespace longscan

// The contracts of linear attention.
#include "kernels/linear_attention.h"

#include <string>

namespace longscan {

namespace {

// The shapes of one call; messages name the operation and the operand.
class Contract {
 public:
  /// `like`: an operand [tokens, heads, ...] that gives the number of tokens and heads.
  Contract(const char* operation, const Tensor& like, const FeatureMap& map, std::int64_t dim,
           std::int64_t value_dim)
      : operation_(operation), like_(like), map_(map), dim_(dim), value_dim_(value_dim) {
    if (!map.has_projection()) return;
    require_operand(name("feature_map.projection").c_str(), map.projection, like.dtype,
                    {map.projection.shape[0], dim});
  }

  void queries(const char* operand, const Tensor& tensor) const { rows(operand, tensor, dim_); }
  void values(const char* operand, const Tensor& tensor) const {
    rows(operand, tensor, value_dim_);
  }
  void state(const char* operand, const Tensor& tensor) const {
    require_operand(name(operand).c_str(), tensor, sum_type(like_.dtype),
                    {like_.shape[1], map_.features(dim_), map_.state_columns(value_dim_)});
  }
  void optional_state(const char* operand, const Tensor& tensor) const {
    if (tensor.present()) state(operand, tensor);
  }
  void no_state_where_causal(const char* operand, const Tensor& tensor, bool causal) const {
    require(!causal || !tensor.present(), name(operand).c_str(), "is absent where causal");
    optional_state(operand, tensor);
  }
  void optional_checkpoints(const Tensor& tensor, bool causal) const {
    if (!tensor.present()) return;
    require(causal, name("checkpoints").c_str(), "are absent unless causal");
    require_operand(name("checkpoints").c_str(), tensor, sum_type(like_.dtype),
                    {checkpoints_of(like_.shape[0]) * like_.shape[1], map_.features(dim_),
                     map_.state_columns(value_dim_)});
  }
  void borders(const LinearAttentionInput& input) const {
    if (input.document_starts.present()) {
      require_operand(name("document_starts").c_str(), input.document_starts, DType::i64,
                      {input.document_starts.shape[0]});
    }
    if (input.key_mask.present()) {
      require_operand(name("key_mask").c_str(), input.key_mask, DType::u8, {like_.shape[0]});
    }
  }
  void keys_and_values(const LinearAttentionInput& input) const {
    queries("key", input.key);
    values("value", input.value);
    borders(input);
  }
  void gradient(const LinearAttentionGradient& gradient) const {
    values("d_out", gradient.d_out);
    values("out", gradient.out);
    normalizer(gradient.normalizer);
  }
  void normalizer(const Tensor& tensor) const {
    require_dtype(name("normalizer").c_str(), tensor, sum_type(like_.dtype));
    require_shape(name("normalizer").c_str(), tensor, {like_.shape[0], like_.shape[1]});
  }

 private:
  std::string name(const char* operand) const { return std::string(operation_) + "." + operand; }
  void rows(const char* operand, const Tensor& tensor, std::int64_t dim) const {
    require_dtype(name(operand).c_str(), tensor, like_.dtype);
    require_shape(name(operand).c_str(), tensor, {like_.shape[0], like_.shape[1], dim});
  }

  const char* operation_;
  const Tensor& like_;
  const FeatureMap& map_;
  std::int64_t dim_;
  std::int64_t value_dim_;
};

Contract contract_of(const char* operation, const LinearAttentionInput& input, const Tensor& like,
                     const Tensor& value) {
  require(like.rank == 3 && value.rank == 3, operation, "works on [tokens, heads, dim]");
  return {operation, like, input.feature_map, like.shape[2], value.shape[2]};
}

}  // namespace

void LinearAttentionSum::check() const {
  const Contract contract = contract_of("LinearAttentionSum", input, input.key, input.value);
  contract.keys_and_values(input);
  contract.state("state", state);
}

void LinearAttention::check() const {
  const Contract contract = contract_of("LinearAttention", input, input.query, input.value);
  contract.values("out", out);
  contract.normalizer(normalizer);
  contract.keys_and_values(input);
  contract.optional_checkpoints(checkpoints, input.causal);
  contract.optional_state("state_before", state_before);
  contract.no_state_where_causal("state_behind", state_behind, input.causal);
}

void LinearAttentionStep::check() const {
  const Contract contract = contract_of("LinearAttentionStep", input, input.query, input.value);
  require(input.query.shape[0] == 1, "LinearAttentionStep", "takes one token");
  contract.values("out", out);
  contract.state("state", state);
  contract.keys_and_values(input);
}

void LinearAttentionGradientSum::check() const {
  const Contract contract =
      contract_of("LinearAttentionGradientSum", input, input.query, gradient.d_out);
  contract.state("state", state);
  contract.gradient(gradient);
  contract.borders(input);
}

void LinearAttentionBackward::check() const {
  const Contract contract = contract_of("LinearAttentionBackward", input, input.query, input.value);
  contract.queries("d_query", d_query);
  contract.queries("d_key", d_key);
  contract.values("d_value", d_value);
  contract.gradient(gradient);
  contract.keys_and_values(input);
  contract.optional_checkpoints(checkpoints, input.causal);
  contract.optional_state("state_before", state_before);
  contract.no_state_where_causal("state_behind", state_behind, input.causal);
  contract.no_state_where_causal("gradients_before", gradients_before, input.causal);
  contract.optional_state("gradients_behind", gradients_behind);
}

}  // namespace longscan

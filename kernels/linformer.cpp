// The contracts of Linformer.
#include "kernels/linformer.h"

#include <algorithm>
#include <string>

namespace longscan {

namespace {

// The shapes of one call; messages name the operation and the operand.
class Contract {
 public:
  /// `like`: an operand [tokens, heads, dim]; `projected` gives k.
  Contract(const char* operation, const Tensor& like, const Tensor& projected)
      : operation_(operation), like_(like), projected_length_(projected.shape[1]) {
    require_float(operation, like);
    require(like.rank == 3 && projected.rank == 3, operation, "works on [tokens, heads, dim]");
    require(like.shape[2] > 0 && projected_length_ > 0, operation, "has dim and k of at least 1");
  }

  void tokens(const char* operand, const Tensor& tensor) const {
    require_dtype(name(operand).c_str(), tensor, like_.dtype);
    require_shape(name(operand).c_str(), tensor, {like_.shape[0], like_.shape[1], like_.shape[2]});
  }
  void document_starts(const Tensor& starts) const {
    if (!starts.present()) return;
    require_operand(name("document_starts").c_str(), starts, DType::i64, {starts.shape[0]});
  }
  /// After document_starts. Whether the first token begins a document, they say in the memory of
  /// the device, where nobody looks here.
  void sums(const char* operand, const Tensor& tensor, const Tensor& starts) const {
    const std::int64_t heads = like_.shape[1];
    const std::int64_t documents = tensor.shape[0] / std::max<std::int64_t>(heads, 1);
    require_operand(name(operand).c_str(), tensor, sum_type(like_.dtype),
                    {documents * heads, projected_length_, 2 * like_.shape[2]});
    const std::int64_t before_starts = documents - starts.size();
    require(like_.shape[0] > 0 ? before_starts == 0 || before_starts == 1 : documents == 0,
            name(operand).c_str(), "has one entry a document and head");
  }
  void projection(const char* operand, const Tensor& tensor, const Tensor& key_projection,
                  DType dtype) const {
    require(
        key_projection.rank == 2 && (key_projection.shape[0] == projected_length_ ||
                                     key_projection.shape[0] == like_.shape[1] * projected_length_),
        name("key_projection").c_str(), "has k rows, or k for each head");
    require_operand(name(operand).c_str(), tensor, dtype,
                    {key_projection.shape[0], key_projection.shape[1]});
  }
  void keys(const LinformerKeys& keys) const {
    tokens("key", keys.key);
    tokens("value", keys.value);
    projection("key_projection", keys.key_projection, keys.key_projection, like_.dtype);
    projection("value_projection", keys.value_projection, keys.key_projection, like_.dtype);
    require_operand(name("position").c_str(), keys.position, DType::i64, {like_.shape[0]});
    document_starts(keys.document_starts);
    if (!keys.key_mask.present()) return;
    require_operand(name("key_mask").c_str(), keys.key_mask, DType::u8, {like_.shape[0]});
  }
  void queries(const LinformerQueries& queries) const {
    tokens("query", queries.query);
    document_starts(queries.document_starts);
    sums("projected", queries.projected, queries.document_starts);
  }
  void log_sum(const Tensor& tensor) const {
    require_operand(name("log_sum").c_str(), tensor, sum_type(like_.dtype),
                    {like_.shape[0], like_.shape[1]});
  }
  void gradient(const LinformerGradient& gradient) const {
    tokens("d_out", gradient.d_out);
    tokens("out", gradient.out);
    log_sum(gradient.log_sum);
  }

 private:
  std::string name(const char* operand) const { return std::string(operation_) + "." + operand; }

  const char* operation_;
  const Tensor& like_;
  std::int64_t projected_length_;
};

}  // namespace

std::int64_t count_documents(std::int64_t tokens, const Tensor& document_starts) {
  if (tokens == 0) return 0;
  const std::int64_t starts = document_starts.size();
  return starts + (starts > 0 && document_starts.as<std::int64_t>()[0] == 0 ? 0 : 1);
}

void LinformerProject::check() const {
  const Contract contract("LinformerProject", keys.key, projected);
  contract.keys(keys);
  contract.sums("projected", projected, keys.document_starts);
}

void LinformerAttend::check() const {
  const Contract contract("LinformerAttend", queries.query, queries.projected);
  contract.tokens("out", out);
  contract.log_sum(log_sum);
  contract.queries(queries);
}

void LinformerBackwardProjected::check() const {
  const Contract contract("LinformerBackwardProjected", queries.query, queries.projected);
  contract.queries(queries);
  contract.sums("d_projected", d_projected, queries.document_starts);
  contract.gradient(gradient);
}

void LinformerBackwardQuery::check() const {
  const Contract contract("LinformerBackwardQuery", queries.query, queries.projected);
  contract.tokens("d_query", d_query);
  contract.queries(queries);
  contract.gradient(gradient);
}

void LinformerBackwardKeys::check() const {
  const Contract contract("LinformerBackwardKeys", keys.key, d_projected);
  contract.tokens("d_key", d_key);
  contract.tokens("d_value", d_value);
  contract.keys(keys);
  const DType sums = sum_type(keys.key.dtype);
  contract.projection("d_key_projection", d_key_projection, keys.key_projection, sums);
  contract.projection("d_value_projection", d_value_projection, keys.key_projection, sums);
  contract.sums("d_projected", d_projected, keys.document_starts);
}

}  // namespace longscan

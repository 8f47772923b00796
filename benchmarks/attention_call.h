// One call of any kind of attention, forward and backward, on random numbers laid out as in a
// model.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/arena.h"
#include "kernels/device.h"
#include "kernels/host_copy.h"
#include "kernels/linear_attention.h"
#include "kernels/linformer.h"
#include "kernels/softmax_attention.h"
#include "model/options.h"

namespace longscan::benchmark {

/// `options` say which attention and how many features or projected rows.
struct CallShape {
  AttentionOptions options = {};
  bool causal = true;
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  std::int64_t dim = 0;
};

/// The same numbers whatever the type, f32, f64 or on GPUs bf16. Query, key and value are slices of
/// one joint tensor; the line is one document.
class AttentionCall {
 public:
  AttentionCall(Device& device, DType dtype, const CallShape& shape);

  void forward();
  void backward();
  /// Output and gradients in host memory, bf16 as f32, until the next call.
  std::vector<Tensor> results();

 private:
  /// Query, key or value, by their index.
  Tensor part(const Tensor& joint, std::int64_t index) const;
  LinearAttentionInput linear() const;
  LinformerKeys keys() const;
  LinformerQueries queries() const;
  SoftmaxKeys softmax_keys() const;
  SoftmaxQueries softmax_queries() const;
  void softmax_forward();
  void linear_backward();
  void linformer_backward();
  void softmax_backward();

  Device& device_;
  CallShape shape_;
  Arena memory_{device_};
  std::array<HostCopy, 4> copies_;
  Tensor query_, key_, value_, out_, d_out_, normalizer_, d_joint_, d_query_, d_key_, d_value_;
  Tensor checkpoints_;                                                           // of linear kinds
  Tensor features_;                                                              // W of favor_*
  Tensor position_, projection_[2], d_projection_[2], projected_, d_projected_;  // of linformer
  Tensor document_, d_out_dot_;                                                  // of softmax
};

/// How far a result is from the same in double: the largest difference relative to the result's
/// largest number, and the root of the mean square of the differences relative to that of the
/// result.
struct ResultError {
  double largest = 0;
  double mean = 0;
};

struct CallError {
  ResultError out;
  ResultError gradients;  ///< the worst of them

  double largest() const { return std::max(out.largest, gradients.largest); }
};
CallError error_of(Device& device, DType dtype, const CallShape& shape, Device& cpu);

}  // namespace longscan::benchmark

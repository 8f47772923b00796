// One call of any kind of attention, forward and backward, on random numbers laid out as in a
// model.
#pragma once

#include <vector>

#include "kernels/arena.h"
#include "kernels/device.h"
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

/// The same numbers in f32 and f64. Query, key and value are slices of one joint tensor; the line
/// is one document.
class AttentionCall {
 public:
  AttentionCall(Device& device, DType dtype, const CallShape& shape);

  void forward();
  void backward();
  /// Output and gradients.
  std::vector<Tensor> results() const;

 private:
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
  Tensor query_, key_, value_, out_, d_out_, normalizer_, d_query_, d_key_, d_value_;
  Tensor features_;                                                              // W of favor_*
  Tensor position_, projection_[2], d_projection_[2], projected_, d_projected_;  // of linformer
  Tensor document_, d_out_dot_;                                                  // of softmax
};

/// The largest difference of a call's results from those of the same in double, each relative to
/// its largest number.
double error_of(Device& device, const CallShape& shape);

}  // namespace longscan::benchmark

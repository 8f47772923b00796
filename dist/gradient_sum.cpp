// What all ranks of a step add up.
#include "dist/gradient_sum.h"

namespace longscan {

void sum_totals(Communicator& world, std::span<double> totals) {
  world.all_reduce_sum(Tensor::dense(totals.data(), DType::f64, {std::ssize(totals)}));
}

void sum_gradient(Communicator& world, const Tensor& gradient, const Tensor& totals) {
  require(gradient.dtype == DType::f32 || gradient.dtype == DType::f64, "sum_gradient.gradient",
          "is f32 or f64");
  require_operand("sum_gradient.totals", totals, DType::f64, {totals.shape[0]});
  world.for_device().all_reduce_sum(totals);
  world.for_device().all_reduce_sum(gradient);
}

}  // namespace longscan

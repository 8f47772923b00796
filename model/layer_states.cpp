// Layout of the states.
#include "model/layer_states.h"

#include "kernels/state.h"

namespace longscan {

void LayerStates::prepare(std::int64_t segments) {
  if (segments_ < segments) lay_out(segments);
  for (const std::vector<Tensor>* carries : {&carry_, &d_carry_}) {
    for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
      const Tensor& carry = carries->at(static_cast<std::size_t>(layer));
      const bool exponential = options_.has_exponents(layer);
      // The fold of nothing is the state of no tokens.
      device_.run(FoldStates{.out = carry.reshaped({carry.size()}),
                             .exponent_columns = exponential ? carry.shape[2] : 0});
    }
  }
}

void LayerStates::lay_out(std::int64_t segments) {
  std::int64_t numbers = 0;
  for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
    numbers += options_.state_size(layer);
  }
  const std::int64_t copies = segments + 2 + (options_.causal ? 0 : 1);
  memory_ = device_.allocate(copies * numbers * size_of(sum_type(options_.dtype)));
  std::byte* next = memory_.data();
  // A state of every layer, `count` times.
  const auto take = [&](std::vector<Tensor>& states, std::int64_t count) {
    states.clear();
    for (std::int64_t i = 0; i < count * options_.layers; ++i) {
      const auto [rows, columns] = options_.state_shape(i % options_.layers);
      states.push_back(
          Tensor::dense(next, sum_type(options_.dtype), {options_.heads, rows, columns}));
      next += states.back().bytes();
    }
  };
  take(before_, segments);
  take(carry_, 1);
  take(d_carry_, 1);
  take(behind_, options_.causal ? 0 : 1);
  segments_ = segments;
}

}  // namespace longscan

// One gather, one fold; forward and backward differ only in the order and the range of the ranks.
#include "dist/state_exchange.h"

#include <utility>

#include "kernels/state.h"

namespace longscan {

void StateExchange::start(Direction direction, const SegmentBorders& borders, const Tensor& sum,
                          bool exponential) {
  require(borders.ranks() == group_.size(), "StateExchange.borders", "are of this group");
  direction_ = direction;
  needed_ = borders.needed_by(group_.rank(), direction);
  carried_on_ = borders.carried_on(direction);
  exponential_ = exponential;
  sums_ = {};
  if (!borders.exchanges(direction)) return;
  require(sum.present(), "StateExchange.sum", "is present where states are exchanged");
  if (group_.size() == 1) {
    sums_ = sum.reshaped({1, sum.size()});
    return;
  }
  const std::int64_t bytes = group_.size() * sum.bytes();
  if (gathered_.bytes() < bytes) gathered_ = device_.allocate(bytes);
  sums_ = Tensor::dense(gathered_.data(), sum.dtype, {group_.size(), sum.size()});
  pending_ = group_.for_device().start_all_gather(sum.data, gathered_.data(), sum.bytes());
}

void StateExchange::finish(const Tensor& state, const Tensor& carry_in, const Tensor& carry_out) {
  if (pending_) std::exchange(pending_, nullptr)->wait();
  join(state, needed_, carry_in);
  if (carry_out.present()) join(carry_out, carried_on_, carry_in);
}

void StateExchange::join(const Tensor& out, const StateRange& range, const Tensor& carry) {
  const auto flat = [](const Tensor& state) { return state.reshaped({state.size()}); };
  // Where nothing is exchanged, the shards in the range hold no tokens that count.
  const bool joins_sums = sums_.present();
  device_.run(FoldStates{.out = flat(out),
                         .runs = sums_,
                         .carry = range.carry && carry.present() ? flat(carry) : Tensor{},
                         .begin = joins_sums ? range.begin : 0,
                         .end = joins_sums ? range.end : 0,
                         .ascending = direction_ == Direction::forward,
                         .exponent_columns = exponential_ ? out.shape[2] : 0});
}

}  // namespace longscan

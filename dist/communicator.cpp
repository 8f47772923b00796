// The part of a communicator that is the same for every transport.
#include "dist/communicator.h"

#include <algorithm>

namespace longscan {

namespace {

// Large enough that latency does not count, small enough that the copies a sum makes do not either.
constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;

}  // namespace

void Communicator::all_reduce_sum(const Tensor& tensor) {
  const Timed timed(traffic_);
  count_call(tensor.bytes());
  if (size() == 1) return;
  const Tensor flat = tensor.reshaped({tensor.size()});
  const std::int64_t piece = kPieceBytes / size_of(tensor.dtype);
  for (std::int64_t begin = 0; begin < flat.size(); begin += piece) {
    sum_piece(flat.rows(begin, std::min(flat.size(), begin + piece)));
  }
}

}  // namespace longscan

// The part of a communicator that is the same for every transport.
#include "dist/communicator.h"

#include <algorithm>

namespace longscan {

void Communicator::all_reduce_sum(const Tensor& tensor) {
  const Timed timed(traffic_);
  count_call(tensor.bytes());
  if (size() == 1) return;
  const Tensor flat = tensor.reshaped({tensor.size()});
  const std::int64_t piece = piece_bytes() / size_of(tensor.dtype);
  for (std::int64_t begin = 0; begin < flat.size(); begin += piece) {
    sum_piece(flat.rows(begin, std::min(flat.size(), begin + piece)));
  }
}

}  // namespace longscan

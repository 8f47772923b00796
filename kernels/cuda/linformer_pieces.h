// Few heads of a long line: where the sums over documents' tokens would be made by fewer blocks of
// threads than a GPU works on, every document is cut into pieces, whose sums are added up in order.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace longscan {

class Cuda;

namespace linformer_on_gpu {

/// Into how many pieces documents are cut, where `blocks` blocks take all of their tokens.
std::int64_t count_pieces(const Cuda& cuda, std::int64_t blocks, std::int64_t tokens);

/// Numbers of the pieces' sums, of which each is like `sums`; 0 where these are made at once.
inline std::int64_t numbers_of_pieces(const Tensor& sums, std::int64_t pieces) {
  return pieces > 1 ? pieces * sums.size() : 0;
}
/// Where blocks put what they sum up, piece after piece: into `sums` where there is one piece, else
/// into scratch memory.
Tensor room_for_pieces(const Tensor& sums, float* scratch, std::int64_t pieces);
/// sums = the sum of what stands in that room.
void add_pieces(Cuda& cuda, const Tensor& sums, const Tensor& room, std::int64_t pieces);

}  // namespace linformer_on_gpu

}  // namespace longscan

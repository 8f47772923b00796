// The sums of pieces of the line on the GPU, and the scan over them.
#include "kernels/cuda/linear_attention_sum.h"

#include "kernels/cuda/linear_attention_passes.h"

namespace longscan::gpu_attention {

namespace {

constexpr int kInputs = 2;

template <class T, int kDim, bool kGradients>
__global__ void __launch_bounds__(Sizes<T, kDim>::kThreads, Sizes<T, kDim>::kBlocks)
    sum_pieces(const __grid_constant__ SumPass<T> pass) {
  const Call<T>& call = pass.call;
  const Block<T, kDim> block(call.map, kInputs);
  const Place place(call, pass.first);
  take_resident_projection(block);
  const Range range = side_of({place.begin, place.end}, pass.side, call.starts, call.starts_count);
  clear_state(block);
  __syncthreads();
  add_range<T, kDim, kGradients>(block, call, place.head, range);
  store_state(block, pass.states + place.offset(call), call.value_dim);
}

constexpr int kScanThreads = 256;

// A thread a number of the state.
__global__ void __launch_bounds__(kScanThreads) scan_pieces(const __grid_constant__ ScanPass pass) {
  auto* cuts = dynamic_shared<std::uint8_t>();  // whether a document begins in the piece
  for (std::int64_t piece = threadIdx.x; piece < pass.pieces; piece += kScanThreads) {
    const std::int64_t end = (piece + 1) * pass.piece_tokens;
    const std::int64_t index =
        count_starts(pass.starts, pass.starts_count, piece * pass.piece_tokens);
    cuts[piece] = index < pass.starts_count && pass.starts[index] < end ? 1 : 0;
  }
  __syncthreads();
  const std::int64_t head = blockIdx.x % pass.heads;
  const std::int64_t number = blockIdx.x / pass.heads * kScanThreads + threadIdx.x;
  const std::int64_t size = pass.features * pass.columns;
  if (number >= size) return;
  // The exponent of the number's row is the row's last number.
  const std::int64_t last = number / pass.columns * pass.columns + pass.columns - 1;
  const float* outer = pass.outer == nullptr ? nullptr : pass.outer + head * size;
  float exponent = outer != nullptr ? outer[last] : kNone;
  const bool is_exponent = pass.exponential && number == last;
  float sum = outer != nullptr ? outer[number] : is_exponent ? kNone : 0.0f;
  for (std::int64_t step = 0; step < pass.pieces; ++step) {
    const std::int64_t piece = pass.side == ShardSide::back ? step : pass.pieces - 1 - step;
    const std::int64_t state = (piece * pass.heads + head) * size;
    if (pass.before != nullptr) pass.before[state + number] = sum;
    if (step + 1 == pass.pieces && pass.beyond == nullptr) break;
    const float own = pass.sums[state + number];
    const float own_exponent = pass.sums[state + last];
    if (cuts[piece] != 0) {
      sum = own;
      exponent = own_exponent;
    } else if (is_exponent) {
      sum = fmaxf(sum, own);
    } else if (pass.exponential) {
      const float highest = fmaxf(exponent, own_exponent);
      sum = sum * expf(exponent - reference_of(highest)) +
            own * expf(own_exponent - reference_of(highest));
      exponent = highest;
    } else {
      sum += own;
    }
  }
  if (pass.beyond != nullptr) pass.beyond[head * size + number] = sum;
}

}  // namespace

Map Map::of(const FeatureMap& map, std::int64_t dim) {
  Map result{.kind = map.kind,
             .features = static_cast<int>(map.features(dim)),
             .dim = static_cast<int>(dim)};
  if (!map.has_projection()) {
    result.projections = result.features;
    return result;
  }
  result.projection = map.projection.data;
  result.projections = static_cast<int>(map.projection.shape[0]);
  result.vectors = rows_in_vectors({map.projection});
  const auto size = static_cast<double>(map.is_exponential() ? dim : result.projections);
  const double root = std::sqrt(size);
  result.scale = static_cast<float>(1 / (map.is_exponential() ? std::sqrt(root) : root));
  return result;
}

std::int64_t chunk_tokens(DType dtype, std::int64_t dim, std::int64_t value_dim) {
  std::int64_t tokens = 0;
  for_gpu_type(dtype, [&]<class T>() {
    for_head_size(dim, value_dim, [&]<int kDim>() { tokens = Sizes<T, kDim>::kRows; });
  });
  return tokens;
}

template <class T>
void run(Cuda& cuda, const SumPass<T>& pass) {
  for_head_size(pass.call.map.dim, pass.call.value_dim, [&]<int kDim>() {
    launch_blocks<T, kDim, SumPass<T>>(
        cuda, pass.gradients ? sum_pieces<T, kDim, true> : sum_pieces<T, kDim, false>, pass,
        kInputs, pass.last - pass.first);
  });
}
template void run(Cuda&, const SumPass<float>&);
template void run(Cuda&, const SumPass<__nv_bfloat16>&);

void run(Cuda& cuda, const ScanPass& pass) {
  const std::int64_t blocks = (pass.features * pass.columns + kScanThreads - 1) / kScanThreads;
  if (blocks * pass.heads == 0) return;
  launch(scan_pieces, Grid(blocks * pass.heads), dim3(kScanThreads), pass.pieces, cuda.stream(),
         pass);
}

}  // namespace longscan::gpu_attention

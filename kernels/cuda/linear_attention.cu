// Linear attention on the GPU: what each operation launches.
//
// Blocks work through pieces of the line one token after the other, so there must be enough pieces
// to fill the GPU. Where a line has several, their sums are taken first, and a scan tells each
// piece what is around it: one state a piece in memory, and none a chunk.
#include "kernels/linear_attention.h"

#include <algorithm>

#include "kernels/cuda/linear_attention_passes.h"

namespace longscan {

namespace {

using namespace gpu_attention;

// Blocks of a multiprocessor that hide each other's waiting.
constexpr std::int64_t kBlocksWanted = 2;
// Pieces shorter than this are not worth their extra sum.
constexpr std::int64_t kShortestPiece = 2;  // chunks

// `like`: an operand that gives tokens, heads and dim.
template <class T>
Call<T> call_of(Cuda& cuda, const LinearAttentionInput& input, const Tensor& like,
                const Tensor& value) {
  Call<T> call{.query = Rows<T>::of(input.query),
               .key = Rows<T>::of(input.key),
               .value = Rows<T>::of(input.value),
               .map = Map::of(input.feature_map, like.shape[2]),
               .tokens = like.shape[0],
               .heads = like.shape[1],
               .value_dim = static_cast<int>(value.shape[2])};
  if (input.document_starts.present()) {
    call.starts = input.document_starts.as<std::int64_t>();
    call.starts_count = input.document_starts.size();
  }
  if (input.key_mask.present()) call.key_mask = input.key_mask.as<std::uint8_t>();
  const std::int64_t chunk = chunk_tokens(like.dtype, call.map.dim, call.value_dim);
  const std::int64_t chunks = (call.tokens + chunk - 1) / chunk;
  const std::int64_t wanted = (kBlocksWanted * cuda.multiprocessors() + call.heads - 1) /
                              std::max<std::int64_t>(call.heads, 1);
  const std::int64_t pieces =
      std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(chunks / kShortestPiece, 1));
  call.piece_tokens = (chunks + pieces - 1) / pieces * chunk;
  call.pieces = chunks == 0 ? 1 : (call.tokens + call.piece_tokens - 1) / call.piece_tokens;
  return call;
}

template <class T>
void take_gradient(Call<T>& call, const LinearAttentionGradient& gradient) {
  call.d_out = Rows<T>::of(gradient.d_out);
  call.out = Rows<T>::of(gradient.out);
  call.normalizer = Rows<float>::of(gradient.normalizer);
}

template <class T>
ScanPass scan_of(const Call<T>& call, ShardSide side) {
  return {.starts = call.starts,
          .starts_count = call.starts_count,
          .tokens = call.tokens,
          .heads = call.heads,
          .pieces = call.pieces,
          .piece_tokens = call.piece_tokens,
          .features = call.map.features,
          .columns = call.state_columns(),
          .exponential = call.map.exponential(),
          .side = side};
}

const float* state_of(const Tensor& tensor) {
  return tensor.present() ? tensor.as<float>() : nullptr;
}

// The whole shard's sum of one side.
template <class T>
void sum_up(Cuda& cuda, const Call<T>& call, ShardSide side, bool gradients, const Tensor& state) {
  float* sums = call.pieces == 1
                    ? state.as<float>()
                    : cuda.scratch<float>(call.pieces * call.heads * call.state_size());
  gpu_attention::run(
      cuda, SumPass<T>{.call = call, .states = sums, .side = side, .gradients = gradients});
  if (call.pieces == 1) return;
  ScanPass scan = scan_of(call, side);
  scan.sums = sums;
  scan.beyond = state.as<float>();
  gpu_attention::run(cuda, scan);
}

/// Which sums the tokens of a pass look at.
struct Sight {
  bool before = false;
  bool behind = false;
  bool gradients = false;
};

// The states around every piece.
template <class T>
States states_of(Cuda& cuda, const Call<T>& call, Sight sight, const Tensor& before,
                 const Tensor& behind) {
  if (call.pieces == 1) return {.before = state_of(before), .behind = state_of(behind)};
  const std::int64_t table = call.pieces * call.heads * call.state_size();
  float* memory = cuda.scratch<float>(4 * table);
  const auto look = [&](ShardSide side, const Tensor& outer, float* sums, float* around) {
    gpu_attention::run(
        cuda, SumPass<T>{.call = call, .states = sums, .side = side, .gradients = sight.gradients});
    ScanPass scan = scan_of(call, side);
    scan.sums = sums;
    scan.outer = state_of(outer);
    scan.before = around;
    gpu_attention::run(cuda, scan);
  };
  States states;
  if (sight.before) {
    look(ShardSide::back, before, memory, memory + table);
    states.own_back = memory;
    states.before = memory + table;
  }
  if (sight.behind) {
    look(ShardSide::front, behind, memory + 2 * table, memory + 3 * table);
    states.own_front = memory + 2 * table;
    states.behind = memory + 3 * table;
  }
  return states;
}

}  // namespace

void execute(Cuda& cuda, const LinearAttentionSum& op) {
  for_gpu_type(op.input.key.dtype, [&]<class T>() {
    sum_up(cuda, call_of<T>(cuda, op.input, op.input.key, op.input.value), op.side, false,
           op.state);
  });
}

void execute(Cuda& cuda, const LinearAttentionGradientSum& op) {
  for_gpu_type(op.input.query.dtype, [&]<class T>() {
    Call<T> call = call_of<T>(cuda, op.input, op.input.query, op.gradient.d_out);
    take_gradient(call, op.gradient);
    sum_up(cuda, call, op.side, true, op.state);
  });
}

void execute(Cuda& cuda, const LinearAttention& op) {
  for_gpu_type(op.input.query.dtype, [&]<class T>() {
    const Call<T> call = call_of<T>(cuda, op.input, op.input.query, op.input.value);
    if (call.tokens == 0) return;
    const Sight sight{.before = true, .behind = !op.input.causal};
    gpu_attention::run(cuda, ForwardPass<T>{.call = call,
                                            .out = Rows<T>::of(op.out),
                                            .normalizer = Rows<float>::of(op.normalizer),
                                            .states = states_of(cuda, call, sight, op.state_before,
                                                                op.state_behind),
                                            .causal = op.input.causal});
  });
}

void execute(Cuda& cuda, const LinearAttentionBackwardQuery& op) {
  for_gpu_type(op.input.query.dtype, [&]<class T>() {
    Call<T> call = call_of<T>(cuda, op.input, op.input.query, op.input.value);
    if (call.tokens == 0) return;
    take_gradient(call, op.gradient);
    const Sight sight{.before = true, .behind = !op.input.causal};
    gpu_attention::run(
        cuda, QueryPass<T>{.call = call,
                           .d_query = Rows<T>::of(op.d_query),
                           .states = states_of(cuda, call, sight, op.state_before, op.state_behind),
                           .causal = op.input.causal});
  });
}

void execute(Cuda& cuda, const LinearAttentionBackwardKeyValue& op) {
  for_gpu_type(op.input.query.dtype, [&]<class T>() {
    Call<T> call = call_of<T>(cuda, op.input, op.input.query, op.input.value);
    if (call.tokens == 0) return;
    take_gradient(call, op.gradient);
    const Sight sight{.before = !op.input.causal, .behind = true, .gradients = true};
    gpu_attention::run(cuda, KeyValuePass<T>{.call = call,
                                             .d_key = Rows<T>::of(op.d_key),
                                             .d_value = Rows<T>::of(op.d_value),
                                             .states = states_of(cuda, call, sight, op.state_before,
                                                                 op.state_behind),
                                             .causal = op.input.causal});
  });
}

}  // namespace longscan

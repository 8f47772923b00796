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

// Cuts the line into as many pieces as fill the GPU, each a multiple of `grain` tokens but the
// last.
template <class T>
void cut(Cuda& cuda, Call<T>& call, std::int64_t grain) {
  const std::int64_t grains = (call.tokens + grain - 1) / grain;
  const std::int64_t wanted = (kBlocksWanted * cuda.multiprocessors() + call.heads - 1) /
                              std::max<std::int64_t>(call.heads, 1);
  const std::int64_t pieces =
      std::clamp<std::int64_t>(wanted, 1, std::max<std::int64_t>(grains, 1));
  call.piece_tokens = (grains + pieces - 1) / pieces * grain;
  call.pieces = grains == 0 ? 1 : (call.tokens + call.piece_tokens - 1) / call.piece_tokens;
}

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
  cut(cuda, call, kShortestPiece * chunk_tokens(like.dtype, call.map.dim, call.value_dim));
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
  gpu_attention::run(cuda, SumPass<T>{.call = call,
                                      .first = 0,
                                      .last = call.pieces,
                                      .states = sums,
                                      .side = side,
                                      .gradients = gradients});
  if (call.pieces == 1) return;
  ScanPass scan = scan_of(call, side);
  scan.sums = sums;
  scan.beyond = state.as<float>();
  gpu_attention::run(cuda, scan);
}

/// Sums of one side of every piece, and their scan.
struct Look {
  ShardSide side;
  bool gradients;
  const Tensor& outer;  ///< what is beyond the first
  float* sums;          ///< those of pieces that another piece sees
  float* around;
};

template <class T>
void look(Cuda& cuda, const Call<T>& call, const Look& to, bool causal) {
  // The piece that nobody looks back at need not be summed up.
  const std::int64_t unseen = causal ? 1 : 0;
  const bool back = to.side == ShardSide::back;
  gpu_attention::run(cuda, SumPass<T>{.call = call,
                                      .first = back ? 0 : unseen,
                                      .last = back ? call.pieces - unseen : call.pieces,
                                      .states = to.sums,
                                      .side = to.side,
                                      .gradients = to.gradients});
  ScanPass scan = scan_of(call, to.side);
  scan.sums = to.sums;
  scan.outer = state_of(to.outer);
  scan.before = to.around;
  gpu_attention::run(cuda, scan);
}

template <class T>
std::int64_t table_size(const Call<T>& call) {
  return call.pieces * call.heads * call.state_size();
}

// Where attention is not causal, the states around every piece and its own.
template <class T>
States states_around(Cuda& cuda, const Call<T>& call, bool gradients, const Tensor& before,
                     const Tensor& behind) {
  if (call.pieces == 1) return {.before = state_of(before), .behind = state_of(behind)};
  const std::int64_t table = table_size(call);
  float* memory = cuda.scratch<float>(4 * table);
  look(cuda, call, {ShardSide::back, gradients, before, memory, memory + table}, false);
  look(cuda, call, {ShardSide::front, gradients, behind, memory + 2 * table, memory + 3 * table},
       false);
  return {.before = memory + table,
          .behind = memory + 3 * table,
          .own_front = memory + 2 * table,
          .own_back = memory};
}

// Causal: S before every piece.
template <class T>
const float* states_before(Cuda& cuda, const Call<T>& call, const Tensor& before) {
  if (call.pieces == 1) return state_of(before);
  const std::int64_t table = table_size(call);
  float* memory = cuda.scratch<float>(2 * table);
  look(cuda, call, {ShardSide::back, false, before, memory, memory + table}, true);
  return memory + table;
}

template <class T>
void differentiate_causal(Cuda& cuda, const Call<T>& whole, const LinearAttentionBackward& op) {
  Call<T> call = whole;
  cut(cuda, call, kCheckpointTokens);
  // Without checkpoints, pieces that begin where these would be.
  Call<T> anew = call;
  anew.piece_tokens = kCheckpointTokens;
  anew.pieces = op.checkpoints.present() ? 0 : checkpoints_of(call.tokens);
  const std::int64_t table = table_size(call), table_anew = table_size(anew);
  float* memory = cuda.scratch<float>(3 * table + 2 * table_anew);
  float* checkpoints = memory + 3 * table;
  if (anew.pieces > 0) {
    look(cuda, anew,
         {ShardSide::back, false, op.state_before, checkpoints + table_anew, checkpoints}, true);
  }
  const float* behind = state_of(op.gradients_behind);
  if (call.pieces > 1) {
    look(cuda, call, {ShardSide::front, true, op.gradients_behind, memory, memory + table}, true);
    behind = memory + table;
  }
  gpu_attention::run(
      cuda, BackwardPass<T>{
                .call = call,
                .d_query = Rows<T>::of(op.d_query),
                .d_key = Rows<T>::of(op.d_key),
                .d_value = Rows<T>::of(op.d_value),
                .checkpoints = op.checkpoints.present() ? op.checkpoints.as<float>() : checkpoints,
                .behind = behind,
                .aside = memory + 2 * table});
}

template <class T>
void differentiate_bidirectional(Cuda& cuda, const Call<T>& call,
                                 const LinearAttentionBackward& op) {
  gpu_attention::run(cuda, QueryPass<T>{.call = call,
                                        .d_query = Rows<T>::of(op.d_query),
                                        .states = states_around(cuda, call, false, op.state_before,
                                                                op.state_behind)});
  gpu_attention::run(cuda,
                     KeyValuePass<T>{.call = call,
                                     .d_key = Rows<T>::of(op.d_key),
                                     .d_value = Rows<T>::of(op.d_value),
                                     .states = states_around(cuda, call, true, op.gradients_before,
                                                             op.gradients_behind)});
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
    States states;
    if (op.input.causal) {
      states.before = states_before(cuda, call, op.state_before);
    } else {
      states = states_around(cuda, call, false, op.state_before, op.state_behind);
    }
    gpu_attention::run(cuda, ForwardPass<T>{.call = call,
                                            .out = Rows<T>::of(op.out),
                                            .normalizer = Rows<float>::of(op.normalizer),
                                            .states = states,
                                            .checkpoints = op.checkpoints.as<float>(),
                                            .causal = op.input.causal});
  });
}

void execute(Cuda& cuda, const LinearAttentionBackward& op) {
  for_gpu_type(op.input.query.dtype, [&]<class T>() {
    Call<T> call = call_of<T>(cuda, op.input, op.input.query, op.input.value);
    if (call.tokens == 0) return;
    take_gradient(call, op.gradient);
    op.input.causal ? differentiate_causal(cuda, call, op)
                    : differentiate_bidirectional(cuda, call, op);
  });
}

}  // namespace longscan

// Linformer over any number of ranks against its definition and against one rank.
#include "model/linformer_attention.h"

#include <gtest/gtest.h>

#include <set>

#include "dist/thread_communicator.h"
#include "tests/support/finite_differences.h"
#include "tests/support/lines.h"
#include "tests/support/linformer_case.h"
#include "tests/support/ranks.h"

namespace longscan {
namespace {

using test::central_differences;
using test::expect_close;
using test::expect_error;
using test::kDifferenceTolerance;
using test::kProjections;
using test::kRankCounts;
using test::Line;
using test::LinformerCase;
using test::LinformerShape;
using test::OwnedShard;
using test::OwnedTensor;
using test::Projections;

ModelOptions options_of(const LinformerShape& shape) {
  return {.vocabulary = 11,
          .width = shape.heads * shape.dim,
          .layers = 1,
          .heads = shape.heads,
          .longest_document = shape.places,
          .causal = false,
          .attention = {.kind = AttentionKind::linformer, .projected_length = shape.length},
          .dtype = DType::f64};
}

AttentionWeights weights_of(const Tensor& key, const Tensor& value) {
  return {.linformer_key = key, .linformer_value = value};
}

Line line_of(const LinformerCase& whole) {
  Line line = test::random_line(whole.shape.tokens, 11, whole.shape.starts);
  const auto* mask = whole.mask.view().as<std::uint8_t>();
  if (whole.masked) line.attended.assign(mask, mask + whole.shape.tokens);
  return line;
}

// One rank's part of a case: its tokens, the gradient of its own projections, its memory.
class RankPart {
 public:
  RankPart(LinformerCase& whole, const Line& line, Communicator& group)
      : case_(whole),
        cuts_(test::uneven_cuts(0, line.size(), group.size())),
        begin_(cuts_[static_cast<std::size_t>(group.rank())]),
        end_(cuts_[static_cast<std::size_t>(group.rank()) + 1]),
        owned_(line, begin_, end_),
        options_(options_of(whole.shape)),
        exchange_(group, device_),
        before_(DType::f64, {whole.shape.heads, whole.shape.length, 2 * whole.shape.dim}),
        behind_(DType::f64, {whole.shape.heads, whole.shape.length, 2 * whole.shape.dim}),
        d_key_projection(DType::f64, {whole.rows(), whole.shape.places}),
        d_value_projection(DType::f64, {whole.rows(), whole.shape.places}) {
    const std::vector<ShardBorders> mine{borders_of_shard(end_ - begin_, owned_.starts)};
    borders_ = gather_borders(group, mine);
  }

  void forward(bool first_visit) {
    projected_ = linformer_attention_forward(
        pass_, weights_of(case_.key_projection, case_.values_with()), heads(case_.joint),
        link(first_visit), part(case_.out), part(case_.log_sum), [] {});
  }
  void backward() {
    const bool joint = case_.sharing == Projections::key_value;
    linformer_attention_backward(
        pass_, weights_of(case_.key_projection, case_.values_with()),
        weights_of(d_key_projection, joint ? d_key_projection : d_value_projection),
        heads(case_.joint), projected_,
        {.d_out = part(case_.d_out), .out = part(case_.out), .log_sum = part(case_.log_sum)},
        heads(case_.d_joint), link(true), [] {});
  }
  Arena& arena() { return arena_; }

 private:
  Tensor part(const OwnedTensor& whole) const { return whole.view().rows(begin_, end_); }
  AttentionHeads heads(const OwnedTensor& joint) const {
    return AttentionHeads::of(part(joint), options_);
  }
  StateLink link(bool first_visit) {
    return {.exchange = exchange_,
            .borders = borders_.front(),
            .before = before_,
            .behind = behind_,
            .first_visit = first_visit};
  }

  LinformerCase& case_;
  std::vector<std::int64_t> cuts_;
  std::int64_t begin_;
  std::int64_t end_;
  OwnedShard owned_;
  ModelOptions options_;
  Device device_ = Device::cpu(1);
  Arena arena_{device_};
  Pass pass_{.device = device_,
             .arena = arena_,
             .options = options_,
             .shard = owned_.shard,
             .line = tensors_of(owned_.shard, options_, device_, arena_)};
  StateExchange exchange_;
  std::vector<SegmentBorders> borders_;
  OwnedTensor before_;
  OwnedTensor behind_;
  Tensor projected_;

 public:
  OwnedTensor d_key_projection;
  OwnedTensor d_value_projection;
};

// Forward and backward of a case on `ranks` ranks; what they leave is in the case.
void run_case(LinformerCase& whole, int ranks) {
  const Line line = line_of(whole);
  std::vector<std::vector<double>> d_keys(static_cast<std::size_t>(ranks));
  std::vector<std::vector<double>> d_values(static_cast<std::size_t>(ranks));
  run_ranks(ranks, [&](Communicator& group) {
    RankPart part(whole, line, group);
    part.forward(true);
    part.backward();
    d_keys[static_cast<std::size_t>(group.rank())] = part.d_key_projection.values();
    d_values[static_cast<std::size_t>(group.rank())] = part.d_value_projection.values();
  });
  const auto add = [](OwnedTensor& sum, const std::vector<std::vector<double>>& parts) {
    for (std::int64_t i = 0; i < sum.size(); ++i) {
      double total = 0;
      for (const auto& part : parts) total += part[static_cast<std::size_t>(i)];
      sum.set(i, total);
    }
  };
  add(whole.d_key_projection, d_keys);
  add(whole.d_value_projection, d_values);
}

constexpr std::int64_t kTokens = 97;

// First tokens of documents: one over all ranks; on, before and after every cut (so of one token,
// too); on the cuts alone, where nothing crosses; and elsewhere.
std::vector<std::vector<std::int64_t>> layouts(int ranks) {
  std::set<std::int64_t> around{0};
  std::set<std::int64_t> on{0};
  for (const std::int64_t cut : test::uneven_cuts(0, kTokens, ranks)) {
    for (std::int64_t token = cut - 1; token <= cut + 1; ++token) {
      if (token >= 0 && token < kTokens) around.insert(token);
    }
    if (cut < kTokens) on.insert(cut);
  }
  return {{0},
          {around.begin(), around.end()},
          {on.begin(), on.end()},
          {0, 1, 2, 40, 41, 77},
          {0, 13, 90}};
}

class LinformerRanks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, LinformerRanks, testing::ValuesIn(kRankCounts));

TEST_P(LinformerRanks, DoNotChangeOutputsOrGradients) {
  for (const auto& starts : layouts(GetParam())) {
    for (const Projections sharing : kProjections) {
      for (const bool masked : {false, true}) {
        const LinformerShape shape{kTokens, 3, 4, 5, kTokens, starts};
        LinformerCase one(DType::f64, shape, sharing);
        LinformerCase many(DType::f64, shape, sharing);
        one.masked = many.masked = masked;
        run_case(one, 1);
        run_case(many, GetParam());
        expect_close(many.out, many.definition(), 1e-12, "out");
        expect_close(many.out, one.out.values(), 1e-12, "out");
        expect_close(many.d_joint, one.d_joint.values(), 1e-12, "query, key, value");
        expect_close(many.d_key_projection, one.d_key_projection.values(), 1e-12, "E");
        expect_close(many.d_value_projection, one.d_value_projection.values(), 1e-12, "F");
      }
    }
  }
}

TEST(LinformerAttention, GradientsOverRanksAreCentralDifferencesUnderEachSharing) {
  const LinformerShape shape{31, 2, 3, 4, 31, {0, 10, 11, 25}};
  for (const Projections sharing : kProjections) {
    LinformerCase c(DType::f64, shape, sharing);
    c.masked = true;
    run_case(c, 4);
    const auto loss = [&] { return c.defined_loss(); };
    expect_close(c.d_joint, central_differences(c.joint, loss), kDifferenceTolerance, "tokens");
    expect_close(c.d_key_projection, central_differences(c.key_projection, loss),
                 kDifferenceTolerance, "E");
    if (sharing == Projections::key_value) continue;
    expect_close(c.d_value_projection, central_differences(c.value_projection, loss),
                 kDifferenceTolerance, "F");
  }
}

TEST(LinformerAttention, ALaterVisitSendsNothingAndGivesTheSameBits) {
  LinformerCase c(DType::f64, {kTokens, 2, 4, 5, kTokens, {0, 60}}, Projections::own);
  const Line line = line_of(c);
  std::vector<double> first(static_cast<std::size_t>(c.out.size()));
  run_ranks(3, [&](Communicator& group) {
    RankPart part(c, line, group);
    part.forward(true);
    group.barrier();
    if (group.rank() == 0) first = c.out.values();
    group.barrier();
    const std::int64_t calls = group.traffic().calls;
    part.arena().rewind();
    part.forward(false);
    EXPECT_EQ(group.traffic().calls, calls);
    part.backward();
  });
  EXPECT_EQ(c.out.values(), first);
}

TEST(LinformerAttention, BytesSentDoNotDependOnTheLength) {
  std::int64_t sent[2] = {};
  for (const std::int64_t tokens : {64, 256}) {
    LinformerCase c(DType::f64, {tokens, 2, 4, 5, 256, {0}}, Projections::heads);
    const Line line = line_of(c);
    run_ranks(2, [&](Communicator& group) {
      RankPart part(c, line, group);
      const std::int64_t before = group.traffic().bytes;
      part.forward(true);
      part.backward();
      if (group.rank() == 0) sent[tokens == 64 ? 0 : 1] = group.traffic().bytes - before;
    });
  }
  // Both ways, forward and backward: heads * k * 2 * dim numbers of 8 bytes each.
  EXPECT_EQ(sent[0], 4 * 2 * 5 * 8 * 8);
  EXPECT_EQ(sent[1], sent[0]);
}

TEST(LinformerAttention, TakesNoMoreMemoryAfterTheFirstStep) {
  LinformerCase c(DType::f64, {kTokens, 2, 4, 5, kTokens, {0, 60}}, Projections::own);
  const Line line = line_of(c);
  run_ranks(3, [&](Communicator& group) {
    RankPart part(c, line, group);
    std::int64_t bytes[3] = {};
    for (std::int64_t& now : bytes) {
      part.forward(true);
      part.backward();
      part.arena().rewind();
      now = part.arena().bytes();
    }
    EXPECT_EQ(bytes[1], bytes[0]);
    EXPECT_EQ(bytes[2], bytes[0]);
  });
}

TEST(LinformerAttention, ADocumentLongerThanTheProjectionIsAnErrorOnAnyRank) {
  for (const int ranks : {1, 4}) {
    LinformerCase c(DType::f64, {kTokens, 2, 4, 5, kTokens - 1, {0}}, Projections::own);
    expect_error(ErrorKind::data, "a document has 97 tokens or more", [&] { run_case(c, ranks); });
  }
}

// Matrices of k rows among the parameters of 12 layers with 12 heads.
std::int64_t count_matrices(LinformerSharing sharing) {
  Device device = Device::cpu(1);
  const std::int64_t length = 3;
  const ModelOptions options{
      .vocabulary = 2,
      .width = 24,
      .layers = 12,
      .heads = 12,
      .hidden = 1,
      .longest_document = 5,
      .causal = false,
      .attention = {
          .kind = AttentionKind::linformer, .projected_length = length, .sharing = sharing}};
  const Parameters parameters(options, device);
  std::int64_t count = 0;
  for (const Parameter& parameter : parameters.list()) {
    if (parameter.name.find("linformer") == std::string::npos) continue;
    EXPECT_EQ(parameter.tensor.shape[1], 5) << parameter.name;
    EXPECT_EQ(parameter.tensor.shape[0] % length, 0) << parameter.name;
    count += parameter.tensor.shape[0] / length;
  }
  // What is shared is one tensor.
  std::set<const void*> tensors;
  for (const LayerWeights& layer : parameters.weights().layers) {
    tensors.insert(layer.attention.linformer_key.data);
    tensors.insert(layer.attention.linformer_value.data);
  }
  const std::int64_t heads = sharing == LinformerSharing::none ? 12 : 1;
  EXPECT_EQ(std::ssize(tensors) * heads, count);
  return count;
}

TEST(LinformerSharing, TwelveLayersOfTwelveHeadsHaveTheNumbersOfMatricesOfThePaper) {
  EXPECT_EQ(count_matrices(LinformerSharing::none), 288);
  EXPECT_EQ(count_matrices(LinformerSharing::headwise), 24);
  EXPECT_EQ(count_matrices(LinformerSharing::key_value), 12);
  EXPECT_EQ(count_matrices(LinformerSharing::layerwise), 1);
}

}  // namespace
}  // namespace longscan

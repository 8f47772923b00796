// Groups go at their own pace: they meet once, when the totals are summed.
#include "launch/evaluation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "dist/gradient_sum.h"
#include "launch/rank_line.h"

namespace longscan {

namespace {

std::int64_t count_letters(const RankLine& line, std::int32_t first_special) {
  std::int64_t letters = 0;
  for (const Shard& shard : line.shards) {
    letters += std::count_if(shard.targets.begin(), shard.targets.end(), [&](std::int32_t target) {
      return target >= 0 && target < first_special;
    });
  }
  return letters;
}

double sum_losses(const RankLine& line, std::span<const double> loss_of_token) {
  double sum = 0;
  for (const Shard& shard : line.shards) {
    for (const std::int32_t target : shard.targets) {
      if (target >= 0) sum += loss_of_token[static_cast<std::size_t>(target)];
    }
  }
  return sum;
}

}  // namespace

double Evaluation::perplexity() const {
  return std::exp(loss());
}

double Evaluation::unigram_perplexity() const {
  return std::exp(unigram_loss / totals.tokens);
}

double Evaluation::bits_per_letter() const {
  return totals.loss / std::log(2.0) / letters;
}

Evaluation evaluate(Transformer& transformer, const Weights& weights, const Mesh& mesh,
                    const TokenStore& store, const LoaderOptions& options, std::int64_t windows,
                    std::int64_t segment) {
  const Loader all(store, options);
  const std::int64_t count = windows > 0 ? std::min(windows, all.windows()) : all.windows();
  const auto [first, last] = part_of(count, mesh.data_index(), mesh.data_size());
  // As many windows at a time as in training, so that the same memory does.
  const std::int64_t at_once = std::max<std::int64_t>(options.batch / mesh.data_size(), 1);
  const std::vector<double> losses = unigram_losses(store);
  Evaluation mine;
  for (std::int64_t window = first; window < last; window += at_once) {
    const Loader loader(store, options, {.epoch = 0, .window = window});
    const RankLine line = read_line(loader, mesh, 0, std::min(at_once, last - window), segment);
    const LossTotals totals = transformer.evaluate(weights, line.shards);
    mine.totals.loss += totals.loss;
    mine.totals.correct += totals.correct;
    mine.totals.tokens += totals.tokens;
    mine.letters += static_cast<double>(count_letters(line, store.vocabulary().pad()));
    mine.unigram_loss += sum_losses(line, losses);
  }
  std::array<double, 5> sums{mine.totals.loss, mine.totals.correct, mine.totals.tokens,
                             mine.letters, mine.unigram_loss};
  sum_totals(mesh.world(), sums);
  return {.totals = {.loss = sums[0], .correct = sums[1], .tokens = sums[2]},
          .letters = sums[3],
          .unigram_loss = sums[4]};
}

}  // namespace longscan

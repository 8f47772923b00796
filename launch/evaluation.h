// How well a model predicts a split of the corpus.
#pragma once

#include <cstdint>

#include "dist/mesh.h"
#include "io/loader.h"
#include "model/transformer.h"

namespace longscan {

/// Sums over all ranks.
struct Evaluation {
  LossTotals totals;
  double letters = 0;       ///< targets that are no special tokens
  double unigram_loss = 0;  ///< nats of the same targets where only letter frequencies are known

  // Of targets, of which there must be some.
  double loss() const { return totals.loss / totals.tokens; }  ///< nats a target
  double perplexity() const;
  double unigram_perplexity() const;
  double accuracy() const { return totals.correct / totals.tokens; }
  /// Of the whole text, its end tokens' share spread over its letters; where every token is a
  /// target.
  double bits_per_letter() const;
};

/// Collective over all ranks of the mesh. Evaluates the first `windows` windows (0: all) of the
/// loader options' split: each data group takes its share of them, line by line, and in each line
/// the ranks of a group share every segment of `segment` tokens. `transformer` is of the mesh's
/// sequence group.
Evaluation evaluate(Transformer& transformer, const Weights& weights, const Mesh& mesh,
                    const TokenStore& store, const LoaderOptions& options, std::int64_t windows,
                    std::int64_t segment);

}  // namespace longscan

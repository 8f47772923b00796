// Where attention to look at comes from: a checkpoint's model on each rank alone, and records of a
// FASTA file as the model met them in training.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/fasta.h"
#include "launch/opened.h"
#include "launch/rank_device.h"
#include "model/transformer.h"

namespace longscan {

/// What `inspect attention` and `inspect similarity` are both told.
struct AttentionChoice {
  std::string checkpoint;
  std::string fasta;
  std::string output;  ///< the files are OUTPUT.h5 and OUTPUT.png
  std::string unknown = "error";
  std::optional<std::int64_t> layer;  ///< absent: all of them
  std::optional<std::int64_t> head;
  std::int64_t longest = 2048;  ///< tokens
  DeviceChoice device;
  bool overwrite = false;

  void declare(CLI::App& app);

  std::string numbers() const { return output + ".h5"; }
  std::string picture() const { return output + ".png"; }
  /// Throws usage where OUTPUT names no file, or one is there and may not be replaced; io where
  /// they cannot be made.
  void require_output() const;
  FastaReader open_fasta() const;
};

class AttentionSource {
 public:
  /// Collective. Throws usage for a layer or a head that the model lacks, data for parameters that
  /// are not finite.
  AttentionSource(Session& session, const AttentionChoice& choice);
  AttentionSource(const AttentionSource&) = delete;
  AttentionSource& operator=(const AttentionSource&) = delete;

  const OpenedCheckpoint& checkpoint() const { return checkpoint_; }
  const ModelOptions& model() const { return transformer_.options(); }
  /// Those chosen, in order.
  const std::vector<std::int64_t>& layers() const { return layers_; }
  const std::vector<std::int64_t>& heads() const { return heads_; }

  /// The most tokens that a record may have, by --longest and by what the model has parameters for.
  std::int64_t longest() const;
  /// Tokens of a record, with the one that stands before its letters or behind them.
  static std::int64_t tokens_for(std::int64_t letters) { return letters + 1; }
  /// The input of a document that is this record. A model of next tokens gets `begin`, or `end`
  /// where windows held many records, and then the letters; a model of masked tokens gets the
  /// letters, none of them masked, and then `end`.
  std::vector<std::int32_t> tokens_of(std::string_view letters) const;

  /// On this rank: shows the matrices of the chosen heads, [heads, tokens, tokens], of every chosen
  /// layer. Throws data where they are not finite, internal where there is no memory for them.
  void show(std::span<const std::int32_t> tokens,
            const std::function<void(std::int64_t layer, const Tensor& matrices)>& see);

 private:
  bool predicts_next() const;

  OpenedCheckpoint checkpoint_;
  std::int64_t longest_;
  RankDevice computes_;
  Parameters parameters_;
  std::unique_ptr<Communicator> alone_;
  Transformer transformer_;
  std::vector<std::int64_t> layers_;
  std::vector<std::int64_t> heads_;
};

/// All letters of the record that the reader has come to.
std::string read_letters(FastaReader& reader);

}  // namespace longscan

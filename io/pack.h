// Turns FASTA files or texts into a token store.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/read_report.h"
#include "io/token_store.h"

namespace longscan {

enum class InputFormat {
  automatic,  ///< a folder or a name ending in .txt is text, all else is FASTA
  fasta,      ///< vocabulary "protein"
  text        ///< vocabulary "bytes"
};

struct PackOptions {
  /// FASTA: any number of files, compressed or not, "-" for standard input. Text: one file or one
  /// folder in PG-19's layout (io/text.h).
  std::vector<std::string> inputs;
  /// The token store; appears, or replaces an older one, when everything is written.
  std::filesystem::path output;
  InputFormat format = InputFormat::automatic;
  Unknown unknown = Unknown::error;
  /// Part of the records that goes to `validation`, in [0, 1). A record is drawn by SHA-256 of its
  /// identifier and its letters, so neither the order of records nor other records matter. A single
  /// text has one record: its last part is validation. A folder of texts brings its own splits.
  double validation_fraction = 0.02;
};

struct PackReport {
  ReadReport reading;                 ///< what was met, changed and left out
  std::array<SplitSummary, 3> parts;  ///< in the order of kSplits
  std::string vocabulary;
  std::string content_hash;
};

/// Reads the inputs once (a single text twice) in memory bounded by the longest FASTA record, and
/// writes the token store. Throws usage for wrong options, what FastaReader, TextReader and
/// list_texts throw, data when nothing is left to train on, io when the store cannot be written.
PackReport pack(const PackOptions& options);

}  // namespace longscan

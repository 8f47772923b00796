// The verbs of the program: each declares its options, then does its work on all ranks.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "io/configuration.h"
#include "io/pack.h"
#include "launch/attention_source.h"
#include "launch/rank_device.h"
#include "launch/session.h"
#include "model/generator.h"

namespace longscan {

/// Reads FASTA or text into a token store.
class Pack {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  PackOptions options_;
  std::string output_;
  std::string format_ = "auto";
  std::string unknown_ = "error";
  bool overwrite_ = false;
};

/// Trains a model on a token store.
class Train {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  std::vector<std::string> assignments() const;

  /// A flag that stands for a key of the configuration.
  struct KeyFlag {
    const char* flag;
    const char* key;
    const char* help;
    std::string value = {};
    const CLI::Option* option = nullptr;
  };
  std::vector<KeyFlag> flags_;
  std::string config_;
  std::vector<std::string> set_;
  std::string resume_ = "auto";
  std::string init_from_;
  bool dry_run_ = false;
};

/// Measures how well a checkpoint predicts a split.
class Evaluate {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  std::string checkpoint_;
  std::string data_;
  std::string split_ = "validation";
  std::int64_t windows_ = 0;
  std::int64_t sequence_ = 0;
  DeviceChoice device_;
};

/// Draws samples from a checkpoint's model.
class Generate {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  std::string checkpoint_;
  std::string prompt_;
  std::string output_;
  SamplingOptions sampling_;
  std::int64_t samples_ = 1;
  std::int64_t longest_ = 1024;
  DeviceChoice device_;
};

/// Writes and draws the attention matrices of a record.
class InspectAttention {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  AttentionChoice choice_;
  std::string record_;
};

/// Writes and draws how much the amino acids attend to each other, beside BLOSUM62.
class InspectSimilarity {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  AttentionChoice choice_;
  std::int64_t records_ = 1000;
};

/// Says what is in a token store, a checkpoint or the folder of a run, or looks into a model.
class Inspect {
 public:
  void declare(CLI::App& app);
  void run(Session& session) const;

 private:
  std::string path_;
  InspectAttention attention_;
  InspectSimilarity similarity_;
  const CLI::App* of_attention_ = nullptr;
  const CLI::App* of_similarity_ = nullptr;
};

}  // namespace longscan

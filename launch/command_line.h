// From the words of the command line to a verb with its options.
#pragma once

#include <functional>
#include <optional>

#include "launch/verbs.h"

namespace longscan {

class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  /// Reads the options of the verb. Returns a text to print instead of running it, for --help and
  /// --version; empty otherwise. Throws usage, with a suggestion for a word that is misspelt.
  std::string parse(int argument_count, const char* const* arguments);
  /// "train"; empty where there is none.
  std::string verb() const;
  void run(Session& session) const;

 private:
  template <class Verb>
  void add(Verb& verb, const char* name, const char* help);
  /// The verb that was named, or what follows it, as `attention` follows `inspect`.
  const CLI::App& innermost() const;
  std::string hint_for(const std::string& word) const;

  CLI::App app_;
  Pack pack_;
  Train train_;
  Evaluate evaluate_;
  Generate generate_;
  Inspect inspect_;
  std::function<void(Session&)> chosen_;
};

}  // namespace longscan

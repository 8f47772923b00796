// What every verb gets: the ranks it runs on, a voice, and its share of the machine's cores.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "dist/communicator.h"
#include "launch/terminal.h"

namespace longscan {

class Session {
 public:
  explicit Session(Communicator& world) : world_(world) {}

  Communicator& world() const { return world_; }
  int rank() const { return world_.rank(); }
  int ranks() const { return world_.size(); }
  /// Rank 0: it speaks for all, and writes files.
  bool leads() const { return rank() == 0; }

  /// Prints on rank 0, above the live line where there is one.
  template <class... Arguments>
  void say(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (leads()) terminal_.print(fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  Terminal& terminal() { return terminal_; }

  /// Collective. Threads of this rank: `requested`, or where that is 0 its share of the cores that
  /// the ranks of its machine may use, at least one.
  int threads(std::int64_t requested) const;

  /// Collective. The text of rank 0, on every rank.
  std::string text_of_leader(std::string text) const;

 private:
  Communicator& world_;
  Terminal terminal_;
};

/// "2 ranks", "1 rank"
std::string counted(std::int64_t count, const char* noun);
/// "1,048,576"; for numbers that are not negative
std::string grouped(std::int64_t number);
/// "1.5 GiB"
std::string bytes_text(double bytes);
/// "1 h 02 min", "3 min 20 s", "8.5 s"
std::string duration_text(double seconds);

}  // namespace longscan

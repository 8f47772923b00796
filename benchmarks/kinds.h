// What tables of all kinds of attention share: kinds, lengths, and the file for plot.sh.
#pragma once

#include <fmt/os.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/measure.h"
#include "kernels/error.h"
#include "model/options.h"

namespace longscan::benchmark {

/// The kind of that name, or all when it is empty. Throws usage when there is no such kind.
inline std::vector<AttentionKind> kinds_named(const std::string& name) {
  std::vector<AttentionKind> kinds{AttentionKind::identity,      AttentionKind::elu1,
                                   AttentionKind::relu,          AttentionKind::favor_relu,
                                   AttentionKind::favor_softmax, AttentionKind::favor_hyperbolic,
                                   AttentionKind::linformer,     AttentionKind::softmax};
  std::erase_if(kinds, [&](AttentionKind kind) { return !name.empty() && name != name_of(kind); });
  if (kinds.empty()) {
    throw Error(ErrorKind::usage, {.what = "no kind of attention is called " + name});
  }
  return kinds;
}

/// Doubling from the shortest on.
struct Lengths {
  std::int64_t shortest = 1024;
  std::int64_t longest = 65'536;
  std::int64_t longest_softmax = 16'384;  ///< its time grows with the square

  std::int64_t longest_of(AttentionKind kind) const {
    return kind == AttentionKind::softmax ? std::min(longest, longest_softmax) : longest;
  }
};

inline Lengths lengths_option(int argc, char** argv) {
  const Lengths usual;
  return {.shortest = number_option(argc, argv, "shortest", usual.shortest),
          .longest = number_option(argc, argv, "longest", usual.longest),
          .longest_softmax = number_option(argc, argv, "longest-softmax", usual.longest_softmax)};
}

/// "kind sees tokens milliseconds", a line each; no file when the path is empty.
class Table {
 public:
  explicit Table(const std::string& path) {
    if (path.empty()) return;
    file_.emplace(fmt::output_file(path));
    file_->print("# kind sees tokens milliseconds\n");
  }

  void row(const char* kind, const char* sees, std::int64_t tokens, double milliseconds) {
    if (file_) file_->print("{} {} {} {:.4f}\n", kind, sees, tokens, milliseconds);
  }

 private:
  std::optional<fmt::ostream> file_;
};

}  // namespace longscan::benchmark

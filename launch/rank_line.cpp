// A line is cut the same way for training and for evaluation.
#include "launch/rank_line.h"

#include <algorithm>

namespace longscan {

RankLine read_line(const Loader& loader, const Mesh& mesh, std::int64_t first, std::int64_t last,
                   std::int64_t segment) {
  const std::int64_t window = loader.options().window;
  const std::int64_t line_end = last * window;
  RankLine line;
  std::int64_t begin = first * window;
  while (begin < line_end) {
    const std::int64_t length = std::min(segment > 0 ? segment : line_end, line_end - begin);
    const auto [mine, behind] = part_of(length, mesh.sequence_index(), mesh.sequence_size());
    line.runs.push_back(loader.read(begin + mine, begin + behind));
    begin += length;
  }
  for (const TokenRun& run : line.runs) {
    line.shards.push_back({.tokens = run.tokens,
                           .targets = run.targets,
                           .positions = run.positions,
                           .document_starts = run.document_starts,
                           .first_token = run.first_token});
  }
  return line;
}

RankLine read_line(const Loader& loader, const Mesh& mesh, std::int64_t segment) {
  const auto [first, last] = part_of(loader.options().batch, mesh.data_index(), mesh.data_size());
  return read_line(loader, mesh, first, last, segment);
}

}  // namespace longscan

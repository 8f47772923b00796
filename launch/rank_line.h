// This rank's part of a line: some of its windows, cut in time into segments and in space into
// shards.
#pragma once

#include <cstdint>
#include <vector>

#include "dist/mesh.h"
#include "io/loader.h"
#include "model/pass.h"

namespace longscan {

/// The shards of one rank, one a segment, and the memory that they view.
struct RankLine {
  std::vector<TokenRun> runs;
  std::vector<Shard> shards;
};

/// This rank's shards of windows [first, last) of the loader's current line, which its sequence
/// group works through in segments of `segment` tokens (0: in one). Without windows there are no
/// segments; a shard is empty where a segment has fewer tokens than the group has ranks. Every rank
/// of the group gets as many segments.
RankLine read_line(const Loader& loader, const Mesh& mesh, std::int64_t first, std::int64_t last,
                   std::int64_t segment);

/// The same for this data group's share of all windows of the line.
RankLine read_line(const Loader& loader, const Mesh& mesh, std::int64_t segment);

}  // namespace longscan

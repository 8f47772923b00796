// Hop by hop: every rank hands the shard that it holds to its neighbour and works on it meanwhile.
#include "dist/block_exchange.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/elementwise.h"

namespace longscan {

namespace {

constexpr std::int64_t kAlignment = 64;

/// Tensors like `like`, of so many tokens, one behind the other in `memory`. Returns their bytes.
std::int64_t lay_out(std::span<const Tensor> like, std::int64_t tokens, std::byte* memory,
                     std::vector<Tensor>* tensors) {
  std::int64_t bytes = 0;
  for (const Tensor& tensor : like) {
    Tensor part = tensor;
    part.shape[0] = tokens;
    for (int i = part.rank - 1; i >= 0; --i) {
      part.stride[i] = i == part.rank - 1 ? 1 : part.stride[i + 1] * part.shape[i + 1];
    }
    if (tensors != nullptr) {
      part.data = memory + bytes;
      tensors->push_back(part);
    }
    bytes += (part.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  return bytes;
}

}  // namespace

// One stream on this rank: the shard that it holds, and the one that comes next.
class BlockExchange::Lane {
 public:
  Lane(BlockExchange& owner, const SegmentBorders& borders, const BlockStream& stream,
       std::size_t index)
      : owner_(owner),
        borders_(borders),
        stream_(stream),
        rank_(owner.group_.rank()),
        step_(stream.direction == Direction::forward ? 1 : -1),
        memory_{&owner.buffers_.at(2 * index), &owner.buffers_.at(2 * index + 1)} {
    for (int source = 0; source < borders.ranks(); ++source) {
      const int reach = borders.reach_of(source, stream.direction);
      hops_ = std::max(hops_, (reach - source) * step_);
    }
  }

  /// Hops until no shard goes further.
  int hops() const { return hops_; }

  /// Collective. Sends on what came with the last hop (at first this rank's own shard).
  void start(int hop) {
    if (hop > hops_) return;
    const int held = rank_ - (hop - 1) * step_;
    const int coming = rank_ - hop * step_;
    const std::int64_t out = reaches(held, rank_ + step_) ? bytes_of(held) : 0;
    const std::int64_t in = reaches(coming, rank_) ? bytes_of(coming) : 0;
    if (hop == 1 && out > 0) pack();
    pending_ = owner_.group_.for_device().start_shift(room(hop - 1, out), out, room(hop, in), in,
                                                      step_ < 0);
  }

  /// Waits for the shard of this hop.
  void finish(int hop) {
    if (hop <= hops_) std::exchange(pending_, nullptr)->wait();
  }

  void work(int hop) const {
    const int source = rank_ - hop * step_;
    if (!reaches(source, rank_) || borders_.tokens_of(source) == 0) return;
    std::vector<Tensor> tensors;
    lay_out(stream_.mine, borders_.tokens_of(source), memory_[hop % 2]->data(), &tensors);
    stream_.body({.offset = offset_of(source), .tensors = tensors});
  }

 private:
  // Whether the shard of `source` comes by `rank`.
  bool reaches(int source, int rank) const {
    if (source < 0 || source >= borders_.ranks()) return false;
    return (borders_.reach_of(source, stream_.direction) - rank) * step_ >= 0;
  }
  std::int64_t bytes_of(int rank) const {
    return lay_out(stream_.mine, borders_.tokens_of(rank), nullptr, nullptr);
  }
  std::byte* room(int hop, std::int64_t bytes) const {
    Buffer& buffer = *memory_[hop % 2];
    if (buffer.bytes() < bytes) buffer = owner_.device_.allocate(bytes);
    return buffer.data();
  }
  void pack() const {
    std::vector<Tensor> tensors;
    lay_out(stream_.mine, borders_.tokens_of(rank_), room(0, bytes_of(rank_)), &tensors);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      owner_.device_.run(Copy{.out = tensors[i], .in = stream_.mine[i]});
    }
  }
  std::int64_t offset_of(int source) const {
    std::int64_t between = 0;
    for (int rank = std::min(source, rank_); rank < std::max(source, rank_); ++rank) {
      between += borders_.tokens_of(rank);
    }
    return source < rank_ ? -between : between;
  }

  BlockExchange& owner_;
  const SegmentBorders& borders_;
  const BlockStream& stream_;
  int rank_;
  int step_;
  Buffer* memory_[2];
  int hops_ = 0;
  std::unique_ptr<Pending> pending_;
};

void BlockExchange::pass(const SegmentBorders& borders, std::span<const BlockStream> streams,
                         const std::function<void()>& meanwhile) {
  require(borders.ranks() == group_.size(), "BlockExchange.borders", "are of this group");
  if (buffers_.size() < 2 * streams.size()) buffers_.resize(2 * streams.size());
  std::vector<Lane> lanes;
  int hops = 0;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    lanes.emplace_back(*this, borders, streams[i], i);
    hops = std::max(hops, lanes.back().hops());
  }
  for (Lane& lane : lanes) lane.start(1);
  meanwhile();
  for (int hop = 1; hop <= hops; ++hop) {
    for (Lane& lane : lanes) lane.finish(hop);
    for (Lane& lane : lanes) lane.start(hop + 1);
    for (Lane& lane : lanes) lane.work(hop);
  }
}

}  // namespace longscan

// Where threads wait for each other: barriers of a block, meetings of a warp, and what is said when
// they miss each other.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "tests/cuda_on_cpu/scheduler.h"

namespace longscan::cuda_on_cpu {
namespace {

bool same_place(const Location& left, const Location& right) {
  const char *mine = left.file_name(), *other = right.file_name();
  return left.line() == right.line() && (mine == other || std::strcmp(mine, other) == 0);
}

}  // namespace

std::string describe(const Location& location) {
  const std::string file = location.file_name();
  return fmt::format("{}:{}", file.substr(file.find_last_of('/') + 1), location.line());
}

void fail(const std::string& what) {
  if (current == nullptr) throw Fault(what);
  const uint3 block = current->block->index, thread = current->index;
  throw Fault(fmt::format("{} [block ({}, {}, {}) thread ({}, {}, {})]", what, block.x, block.y,
                          block.z, thread.x, thread.y, thread.z));
}

int Scheduler::block_barrier(Vote vote, bool ballot, const Location& location) {
  ScheduledThread& mine = running();
  if (arrived_ == 0) {
    barrier_location_ = location;
    vote_ = vote;
  } else if (!same_place(location, barrier_location_) || vote != vote_) {
    fail(fmt::format("divergent barrier: some threads wait at {}, this one at {}",
                     describe(barrier_location_), describe(location)));
  }
  if (done_ > 0) {
    fail(fmt::format("barrier at {}, but {} threads of the block have returned", describe(location),
                     done_));
  }
  ballots_ += ballot;
  mine.location = location;
  mine.state = ThreadState::at_barrier;
  if (++arrived_ == static_cast<int>(threads_.size())) release_barrier();
  suspend();
  return outcome_;
}

// The outcome stays until all threads meet again, so each can read it.
void Scheduler::release_barrier() {
  const int count = static_cast<int>(threads_.size());
  outcome_ = vote_ == Vote::all ? ballots_ == count : vote_ == Vote::any ? ballots_ > 0 : ballots_;
  arrived_ = ballots_ = 0;
  ++barrier_epoch_;
  for (ScheduledThread& thread : threads_) thread.state = ThreadState::ready;
  make_all_ready();
}

void Scheduler::meet_in_warp(std::uint32_t mask, void* record, Combine combine,
                             const Location& location) {
  ScheduledThread& mine = running();
  const int my_lane = mine.rank % kWarpSize, warp = mine.rank / kWarpSize;
  if ((mask >> my_lane & 1) == 0) {
    fail(fmt::format("lane {} calls with a mask ({:08x}) that leaves it out at {}", my_lane, mask,
                     describe(location)));
  }
  mask &= lanes_of(warp);  // the last one may have fewer
  mine.mask = mask;
  mine.combine = combine;
  mine.record = record;
  mine.location = location;
  std::uint32_t& waiting = waiting_lanes_[warp];
  waiting |= 1u << my_lane;
  mine.state = ThreadState::in_warp;
  if ((waiting & mask) == mask) release_warp(mine, combine);
  suspend();
}

void Scheduler::release_warp(const ScheduledThread& last, Combine combine) {
  const int warp = last.rank / kWarpSize, first = warp * kWarpSize;
  void* records[kWarpSize] = {};
  for (std::uint32_t rest = last.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    ScheduledThread& thread = threads_[first + lane];
    require_same_meeting(last, thread);
    thread.state = ThreadState::ready;
    records[lane] = thread.record;
  }
  if (combine != nullptr) combine(records, last.mask);
  waiting_lanes_[warp] &= ~last.mask;
  make_ready(warp, last.mask);
}

void Scheduler::require_same_meeting(const ScheduledThread& mine,
                                     const ScheduledThread& other) const {
  if (other.mask == mine.mask && other.combine == mine.combine &&
      same_place(other.location, mine.location)) {
    return;
  }
  fail(
      fmt::format("lanes of a warp miss each other: lane {} at {} with mask {:08x}, lane {} at {} "
                  "with mask {:08x}",
                  mine.rank % kWarpSize, describe(mine.location), mine.mask, other.rank % kWarpSize,
                  describe(other.location), other.mask));
}

std::string Scheduler::describe_deadlock() const {
  struct Place {
    int threads = 0;
    int first = 0;
  };
  std::map<std::string, Place> places;
  for (const ScheduledThread& thread : threads_) {
    std::string name = "returned";
    if (thread.state == ThreadState::at_barrier) {
      name = "waiting at the barrier at " + describe(thread.location);
    } else if (thread.state == ThreadState::in_warp) {
      name = fmt::format("waiting for lanes {:08x} of warp {} at {}", thread.mask,
                         thread.rank / kWarpSize, describe(thread.location));
    }
    Place& place = places[name];
    if (place.threads++ == 0) place.first = thread.rank;
  }
  std::string text = fmt::format("deadlock in block ({}, {}, {}):", block_.index.x, block_.index.y,
                                 block_.index.z);
  constexpr int kMostPlaces = 12;
  int shown = 0;
  for (const auto& [name, place] : places) {
    if (++shown > kMostPlaces) return text + "\n  ...";
    text += fmt::format("\n  {} threads, first {}: {}", place.threads, place.first, name);
  }
  return text;
}

namespace {

Scheduler& scheduler_in_kernel(const Location& location) {
  if (current == nullptr) throw Fault(describe(location) + ": outside of kernels");
  return Scheduler::here();
}

}  // namespace

int block_barrier(Vote vote, bool ballot, Location location) {
  return scheduler_in_kernel(location).block_barrier(vote, ballot, location);
}

void meet_in_warp(std::uint32_t mask, void* record, Combine combine, Location location) {
  scheduler_in_kernel(location).meet_in_warp(mask, record, combine, location);
}

void warp_barrier(std::uint32_t mask, Location location) {
  Scheduler& scheduler = scheduler_in_kernel(location);
  ScheduledThread& mine = scheduler.running();
  scheduler.meet_in_warp(mask, nullptr, nullptr, location);
  ++mine.warp_epoch;
}

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name) {
  return Scheduler::here().shared().array(key, bytes, alignment, name);
}

void* all_dynamic_shared() {
  return Scheduler::here().shared().dynamic();
}

void* part_of_dynamic_shared(std::size_t offset, std::size_t bytes) {
  return Scheduler::here().shared().part(offset, bytes);
}

bool is_shared(const void* address) {
  return Scheduler::here().shared().holds(address);
}

void run_grid(const LaunchShape& shape, void (*body)(const void*), const void* closure) {
  Scheduler::here().run(shape, body, closure);
}

}  // namespace longscan::cuda_on_cpu

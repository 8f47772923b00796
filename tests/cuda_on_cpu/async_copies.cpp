// Copies that land as late as they may.
#include "tests/cuda_on_cpu/async_copies.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>

#include "tests/cuda_on_cpu/executor.h"
#include "tests/cuda_on_cpu/race_hooks.h"
#include "tests/cuda_on_cpu/scheduler.h"

namespace longscan::cuda_on_cpu {
namespace {

void land(const AsyncCopy& copy) {
  const std::size_t copied = copy.bytes - copy.zeros;
  std::memcpy(copy.to, copy.from, copied);
  std::memset(static_cast<std::byte*>(copy.to) + copied, 0, copy.zeros);
  note_access(copy.to, copy.bytes, true);
}

bool aligned(const void* address, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

}  // namespace

void AsyncCopies::issue(const AsyncCopy& copy, bool early) {
  // Written from now on until it is waited for: whoever touches it in between races.
  note_access(copy.from, copy.bytes - copy.zeros, false);
  note_access(copy.to, copy.bytes, true);
  if (early) {
    land(copy);
  } else {
    copies_.push_back(copy);
  }
}

void AsyncCopies::wait(std::size_t prior) {
  if (groups_.size() <= prior) return;
  const std::size_t landing_groups = groups_.size() - prior;
  const std::size_t landing = groups_[landing_groups - 1];
  for (std::size_t i = 0; i < landing; ++i) land(copies_[i]);
  copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(landing));
  groups_.erase(groups_.begin(), groups_.begin() + static_cast<std::ptrdiff_t>(landing_groups));
  for (std::size_t& group : groups_) group -= landing;
}

void AsyncCopies::clear() {
  copies_.clear();
  groups_.clear();
}

void issue_copy(void* to, const void* from, std::size_t bytes, std::size_t zeros,
                Location location) {
  if ((bytes != 4 && bytes != 8 && bytes != 16) || zeros > bytes) {
    fail(fmt::format("an asynchronous copy of {} bytes, {} of them zero, at {}", bytes, zeros,
                     describe(location)));
  }
  if (!aligned(to, bytes) || !aligned(from, bytes)) {
    fail(fmt::format("an asynchronous copy of {} bytes is misaligned at {}: to {}, from {}", bytes,
                     describe(location), fmt::ptr(to), fmt::ptr(from)));
  }
  if (!is_shared(to)) {
    fail(fmt::format("an asynchronous copy at {} goes elsewhere than to shared memory",
                     describe(location)));
  }
  Scheduler& scheduler = Scheduler::here();
  scheduler.running().copies.issue({to, from, bytes, zeros}, scheduler.next_copy_is_early());
}

void commit_copies() {
  Scheduler::here().running().copies.commit();
}

void wait_for_copies(std::size_t groups) {
  Scheduler::here().running().copies.wait(groups);
}

}  // namespace longscan::cuda_on_cpu

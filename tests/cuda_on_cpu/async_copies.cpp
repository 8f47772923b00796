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
  if (copy.landed) return;
  const std::size_t copied = copy.bytes - copy.zeros;
  std::memcpy(copy.to, copy.from, copied);
  std::memset(static_cast<std::byte*>(copy.to) + copied, 0, copy.zeros);
}

bool aligned(const void* address, std::size_t bytes) {
  return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

}  // namespace

void AsyncCopies::wait(std::size_t prior, const void* code) {
  if (groups_.size() <= prior) return;
  const std::size_t landing_groups = groups_.size() - prior;
  const std::size_t landing = groups_[landing_groups - 1];
  for (std::size_t i = 0; i < landing; ++i) {
    land(copies_[i]);
    note_access(copies_[i].to, copies_[i].bytes, AccessKind::copy_ends, code);
  }
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
  const void* code = __builtin_return_address(0);
  note_access(from, bytes - zeros, AccessKind::read, code);
  note_access(to, bytes, AccessKind::copy_begins, code);
  AsyncCopy copy{to, from, bytes, zeros};
  if (scheduler.next_copy_is_early()) {
    land(copy);
    copy.landed = true;
  }
  scheduler.running().copies.issue(copy);
}

void commit_copies() {
  Scheduler::here().running().copies.commit();
}

void wait_for_copies(std::size_t groups) {
  Scheduler::here().running().copies.wait(groups, __builtin_return_address(0));
}

}  // namespace longscan::cuda_on_cpu

// Who touched a byte last, and whether something lies between.
#include "tests/cuda_on_cpu/race_checker.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "tests/cuda_on_cpu/scheduler.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr std::size_t kMostRaces = 16;

template <class Access>
bool is(const Access& access, AccessKind kind) {
  return static_cast<AccessKind>(access.kind) == kind;
}
template <class Access>
bool is_read(const Access& access) {
  return is(access, AccessKind::read) || is(access, AccessKind::atomic_read);
}
template <class Access>
bool is_atomic(const Access& access) {
  return is(access, AccessKind::atomic_read) || is(access, AccessKind::atomic_write);
}

const char* code_origin() {
  return reinterpret_cast<const char*>(&RaceChecker::here);
}

// "file.cu:12", from the debug information, which binutils can read.
std::string source_of(std::int32_t distance) {
  const char* code = code_origin() + distance;
  Dl_info info;
  if (dladdr(code, &info) == 0) return fmt::format("{}", fmt::ptr(static_cast<const void*>(code)));
  const auto offset = code - static_cast<const char*>(info.dli_fbase) - 1;
  const std::string command = fmt::format("addr2line -s -e '{}' {:#x}", info.dli_fname, offset);
  std::string line;
  if (std::FILE* output = popen(command.c_str(), "r")) {
    std::array<char, 256> text{};
    if (std::fgets(text.data(), text.size(), output) != nullptr) line = text.data();
    pclose(output);
  }
  line.erase(std::find(line.begin(), line.end(), '\n'), line.end());
  return line.empty() ? fmt::format("{}", fmt::ptr(static_cast<const void*>(code))) : line;
}

}  // namespace

RaceChecker& RaceChecker::here() {
  static thread_local RaceChecker instance;
  return instance;
}

void RaceChecker::begin_launch() {
  first_block_ = static_cast<std::uint32_t>(Scheduler::here().block_number()) + 1;
  races_.clear();
}

RaceChecker::Byte& RaceChecker::byte_at(std::uintptr_t address) {
  const std::uintptr_t number = address / kPageBytes;
  if (number != last_page_number_) {
    std::unique_ptr<Page>& page = pages_[number];
    if (page == nullptr) page = std::make_unique<Page>();
    last_page_ = page.get();
    last_page_number_ = number;
  }
  return (*last_page_)[address % kPageBytes];
}

bool RaceChecker::ordered(const Access& earlier, const Access& later, const void* address) const {
  if (earlier.block < first_block_) return true;
  if (is_atomic(earlier) && is_atomic(later)) return true;
  // The same shared memory serves one block after the other.
  if (earlier.block != later.block) return is_shared(address);
  if (is(earlier, AccessKind::copy_begins)) return is(later, AccessKind::copy_ends);
  if (earlier.thread == later.thread || earlier.barrier_epoch != later.barrier_epoch) return true;
  return earlier.thread / kWarpSize == later.thread / kWarpSize &&
         earlier.warp_epoch != later.warp_epoch;
}

void RaceChecker::check(const Access& earlier, const Access& later, const void* address) {
  if (ordered(earlier, later, address) || races_.size() == kMostRaces) return;
  const bool known = std::any_of(races_.begin(), races_.end(), [&](const Race& race) {
    return race.earlier.code == earlier.code && race.later.code == later.code;
  });
  if (!known) races_.push_back({address, earlier, later});
}

void RaceChecker::note(const void* address, std::size_t bytes, AccessKind kind, const void* code) {
  if (current == nullptr) return;  // the host's
  const Scheduler& scheduler = Scheduler::here();
  const auto& thread = static_cast<const ScheduledThread&>(*current);
  if (thread.fiber->stack_holds(address)) return;
  const Access access{
      .block = static_cast<std::uint32_t>(scheduler.block_number()),
      .code = static_cast<std::int32_t>(static_cast<const char*>(code) - code_origin()),
      .barrier_epoch = scheduler.barrier_epoch(),
      .warp_epoch = static_cast<std::uint16_t>(thread.warp_epoch),
      .thread = static_cast<std::uint16_t>(thread.rank),
      .kind = static_cast<std::uint16_t>(kind)};
  for (std::size_t i = 0; i < bytes; ++i) {
    const void* place = static_cast<const std::byte*>(address) + i;
    Byte& byte = byte_at(reinterpret_cast<std::uintptr_t>(place));
    check(byte.writer, access, place);
    if (!is_read(access)) {
      // What has been read since a copy began has been reported.
      if (kind != AccessKind::copy_ends) {
        for (const Access& reader : byte.readers) check(reader, access, place);
      }
      byte.writer = access;
    } else {
      const Access& last = byte.readers[0];
      const bool again = last.block == access.block && last.thread == access.thread &&
                         last.barrier_epoch == access.barrier_epoch;
      if (!again) byte.readers[1] = last;
      byte.readers[0] = access;
    }
  }
}

std::string RaceChecker::end_launch() {
  std::string text;
  for (const Race& race : races_) {
    const auto what = [](const Access& access) {
      return is_read(access) ? "read" : is(access, AccessKind::copy_begins) ? "copy" : "write";
    };
    if (!text.empty()) text += '\n';
    text +=
        fmt::format("race on {} memory: {} by thread {} at {}, after {} by {} {} at {}",
                    is_shared(race.address) ? "shared" : "global", what(race.later),
                    race.later.thread, source_of(race.later.code), what(race.earlier),
                    race.earlier.block == race.later.block ? "thread" : "another block's thread",
                    race.earlier.thread, source_of(race.earlier.code));
  }
  return text;
}

}  // namespace longscan::cuda_on_cpu

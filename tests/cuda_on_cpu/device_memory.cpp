// All allocations by their addresses, and the address sanitizer's view of them.
#include "tests/cuda_on_cpu/device_memory.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/cuda_on_cpu/configuration.h"
#include "tests/cuda_on_cpu/executor.h"
#include "tests/cuda_on_cpu/sanitizers.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr std::size_t kAlignment = 256;  // as cudaMalloc promises

struct Allocation {
  std::size_t bytes;
  MemoryKind kind;
};

// Shared by all host threads, as the GPU is.
struct Allocations {
  std::mutex mutex;
  std::map<const std::byte*, Allocation> by_address;
  std::size_t device_bytes = 0;
  int open = 0;  // how many work on device memory now
};

Allocations& allocations() {
  static Allocations instance;
  return instance;
}

// The caller holds the mutex.
void close_to_host([[maybe_unused]] const std::byte* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  __asan_poison_memory_region(memory, bytes);
#endif
}

void open_to_host([[maybe_unused]] const std::byte* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

template <class Change>
void for_device_memory([[maybe_unused]] Allocations& all, [[maybe_unused]] Change change) {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  for (const auto& [memory, allocation] : all.by_address) {
    if (allocation.kind == MemoryKind::device) change(memory, allocation.bytes);
  }
#endif
}

// The allocation that holds the address, and its beginning; the caller holds the mutex.
const std::pair<const std::byte* const, Allocation>* find(Allocations& all, const void* address) {
  const auto* place = static_cast<const std::byte*>(address);
  auto after = all.by_address.upper_bound(place);
  if (after == all.by_address.begin()) return nullptr;
  --after;
  // One past the end belongs to it: an empty view may point there.
  return place <= after->first + after->second.bytes ? &*after : nullptr;
}

}  // namespace

void* allocate_memory(MemoryKind kind, std::size_t bytes) {
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  if (kind == MemoryKind::device && all.device_bytes + bytes > configuration().device_bytes) {
    return nullptr;
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return nullptr;
  std::memset(memory, 0xff, bytes);
  auto* begin = static_cast<std::byte*>(memory);
  all.by_address.emplace(begin, Allocation{bytes, kind});
  if (kind == MemoryKind::device) {
    all.device_bytes += bytes;
    if (all.open == 0) close_to_host(begin, bytes);
  }
  return memory;
}

bool free_memory(MemoryKind kind, void* memory) {
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  const auto found = all.by_address.find(static_cast<std::byte*>(memory));
  if (found == all.by_address.end() || found->second.kind != kind) return false;
  if (kind == MemoryKind::device) {
    all.device_bytes -= found->second.bytes;
    open_to_host(found->first, found->second.bytes);
  }
  all.by_address.erase(found);
  std::free(memory);
  return true;
}

MemoryKind kind_of(const void* address) {
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  const auto* found = find(all, address);
  return found != nullptr ? found->second.kind : MemoryKind::pageable;
}

bool on_device(const void* address, std::size_t bytes) {
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  const auto* found = find(all, address);
  return found != nullptr && found->second.kind == MemoryKind::device &&
         static_cast<const std::byte*>(address) + bytes <= found->first + found->second.bytes;
}

std::size_t device_bytes_in_use() {
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  return all.device_bytes;
}

DeviceMemoryOpen::DeviceMemoryOpen() {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  if (all.open++ == 0) for_device_memory(all, open_to_host);
#endif
}

DeviceMemoryOpen::~DeviceMemoryOpen() {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  Allocations& all = allocations();
  const std::lock_guard lock(all.mutex);
  if (--all.open == 0) for_device_memory(all, close_to_host);
#endif
}

void check_pointer_argument(const void* pointer, int argument) {
  if (pointer != nullptr && kind_of(pointer) == MemoryKind::pageable) {
    fail(fmt::format("argument {} of a launch points to host memory", argument));
  }
}

void check_argument([[maybe_unused]] const void* argument, [[maybe_unused]] std::size_t bytes,
                    [[maybe_unused]] int number) {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  for (std::size_t offset = 0; offset + sizeof(void*) <= bytes; offset += sizeof(void*)) {
    void* word = nullptr;
    std::memcpy(&word, static_cast<const std::byte*>(argument) + offset, sizeof(void*));
    char name[1];
    void* region = nullptr;
    std::size_t region_bytes = 0;
    if (word == nullptr || kind_of(word) != MemoryKind::pageable) continue;
    const char* where = __asan_locate_address(word, name, sizeof name, &region, &region_bytes);
    const bool inside =
        std::strcmp(where, "heap") == 0 && word >= region &&
        static_cast<std::byte*>(word) < static_cast<std::byte*>(region) + region_bytes;
    if (inside) {
      fail(fmt::format("argument {} of a launch points to host memory at its byte {}", number,
                       offset));
    }
  }
#endif
}

}  // namespace longscan::cuda_on_cpu

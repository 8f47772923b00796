// Where the race checker listens, in programs whose kernels are compiled for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace longscan::cuda_on_cpu {

/// Between the beginning of a copy and its end nobody may touch what it writes.
enum class AccessKind : std::uint16_t {
  read,
  write,
  atomic_read,
  atomic_write,
  copy_begins,
  copy_ends
};

struct RaceHooks {
  void (*begin_launch)();
  /// An access that is made for the present thread where the compiler marks none, by a call that
  /// returns to `code`.
  void (*note_access)(const void* address, std::size_t bytes, AccessKind kind, const void* code);
  /// The races of the launch, one a line.
  std::string (*end_launch)();
};

/// Set before main by kernels that are compiled for the race checker; null otherwise.
inline const RaceHooks* race_hooks = nullptr;

inline void note_access(const void* address, std::size_t bytes, AccessKind kind, const void* code) {
  if (race_hooks != nullptr) race_hooks->note_access(address, bytes, kind, code);
}

}  // namespace longscan::cuda_on_cpu

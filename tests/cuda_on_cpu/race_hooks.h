// Where the race checker listens, in programs whose kernels are compiled for it.
#pragma once

#include <cstddef>
#include <string>

namespace longscan::cuda_on_cpu {

struct RaceHooks {
  void (*begin_launch)();
  /// An access that is made for the present thread where the compiler marks none.
  void (*note_access)(const void* address, std::size_t bytes, bool write);
  /// The races of the launch, one a line.
  std::string (*end_launch)();
};

/// Set before main by kernels that are compiled for the race checker; null otherwise.
inline const RaceHooks* race_hooks = nullptr;

inline void note_access(const void* address, std::size_t bytes, bool write) {
  if (race_hooks != nullptr && bytes > 0) race_hooks->note_access(address, bytes, write);
}

}  // namespace longscan::cuda_on_cpu

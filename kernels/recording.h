// Operations that come again and again with the same operands, so that a device need not be told
// them one by one each time.
#pragma once

#include <cstdint>
#include <memory>

namespace longscan {

/// What Device::replay keeps from call to call. One for each run of operations that repeats.
struct Recording {
  using Destroy = void (*)(void*);

  bool run_before = false;
  std::int64_t allocations = 0;  ///< of the device when it was recorded
  std::unique_ptr<void, Destroy> graph{nullptr, nullptr};
};

}  // namespace longscan

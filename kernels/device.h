// A device runs operations: `device.run(LayerNorm{.out = y, .in = x, ...})`.
//
// An operation is a struct declared once, with its formula, its shapes and a `check()` that is the
// contract for all backends. Each backend has one `execute(Backend&, const Operation&)`; a
// forgotten one is a link error that names it.
#pragma once

#include <variant>

#include "kernels/buffer.h"
#include "kernels/cpu/cpu.h"

namespace longscan {

class Device {
 public:
  /// The CPU with `threads` threads (at least one), the caller's included.
  static Device cpu(int threads) { return Device(threads); }

  /// Checks the operation's contract, then runs it to its end.
  template <class Operation>
  void run(const Operation& operation) {
    operation.check();
    std::visit([&](auto& backend) { execute(backend, operation); }, backend_);
  }

  /// Memory of this device, zeroed.
  Buffer allocate(std::int64_t bytes) { return Buffer(bytes); }

  int threads() const {
    return std::visit([](const auto& backend) { return backend.threads(); }, backend_);
  }

 private:
  explicit Device(int threads) : backend_(std::in_place_type<Cpu>, threads) {}

  std::variant<Cpu> backend_;
};

}  // namespace longscan

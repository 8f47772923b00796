// A device runs operations: `device.run(LayerNorm{.out = y, .in = x, ...})`.
//
// An operation is a struct declared once, with its formula, its shapes and a `check()` that is the
// contract for all backends. Each backend has one `execute(Backend&, const Operation&)`; a
// forgotten one is a link error that names it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <variant>

#include "kernels/backends.h"
#include "kernels/buffer.h"
#include "kernels/recording.h"
#include "kernels/tensor.h"

namespace longscan {

class Device {
 public:
  /// The CPU with `threads` threads (at least one), the caller's included.
  static Device cpu(int threads) { return Device(Backend(std::in_place_type<Cpu>, threads)); }
  /// A GPU of this machine, counted from 0, for the calling thread. Throws usage where there is
  /// none, saying what is missing.
  static Device cuda(int index, const CudaOptions& options = {}) {
    return Device(make_cuda(index, options));
  }

  /// Checks the operation's contract, then runs it: on the CPU to its end; on a GPU behind what was
  /// run before, while the caller goes on. What an operation says about bad data then comes from
  /// the next call that waits.
  template <class Operation>
  void run(const Operation& operation) {
    operation.check();
    std::visit([&](auto& backend) { execute(backend, operation); }, backend_);
  }

  /// Calls `body`, which runs operations and does nothing else that matters: no copies from or to
  /// the host, no allocation once it has been called, and each time the same operations on the same
  /// operands (a new Recording else). A GPU then repeats them without calling it.
  void replay(Recording& recording, const std::function<void()>& body) {
    std::visit([&](auto& backend) { backend.replay(recording, body); }, backend_);
  }

  /// Memory of this device, zeroed.
  Buffer allocate(std::int64_t bytes) {
    return std::visit([&](auto& backend) { return backend.allocate(bytes); }, backend_);
  }
  /// Host memory, zeroed, from and to which this device copies fast.
  Buffer allocate_on_host(std::int64_t bytes) {
    return std::visit([&](auto& backend) { return backend.allocate_on_host(bytes); }, backend_);
  }

  /// Whether the host may read and write this device's memory.
  bool on_host() const { return std::holds_alternative<Cpu>(backend_); }
  /// Fills a dense tensor of this device from host memory, which may change again behind the call.
  void upload(const Tensor& to, const void* from) {
    require_dense("Device.upload", to);
    std::visit([&](auto& backend) { backend.upload(to.data, from, to.bytes()); }, backend_);
  }
  /// Waits for what was run, then copies a dense tensor to host memory.
  void download(void* to, const Tensor& from) {
    require_dense("Device.download", from);
    std::visit([&](auto& backend) { backend.download(to, from.data, from.bytes()); }, backend_);
  }
  /// Waits for what was run. Throws what its operations had to say about bad data.
  void synchronize() {
    std::visit([](auto& backend) { backend.synchronize(); }, backend_);
  }

  /// Of the CPU; a GPU counts as one.
  int threads() const {
    return std::visit([](const auto& backend) { return backend.threads(); }, backend_);
  }
  /// Of a GPU, which takes so much work at once; the CPU has none.
  int multiprocessors() const {
    return std::visit([](const auto& backend) { return backend.multiprocessors(); }, backend_);
  }
  /// Bytes of the memory that `allocate` takes from which are in use: of a GPU all, whoever uses
  /// them; on the CPU those of this process.
  std::int64_t memory_used() const {
    return std::visit([](const auto& backend) { return backend.memory_used(); }, backend_);
  }
  /// "CPU", or the GPU's name.
  std::string name() const {
    return std::visit([](const auto& backend) { return backend.name(); }, backend_);
  }

  const Backend& backend() const { return backend_; }
  Backend& backend() { return backend_; }

 private:
  explicit Device(Backend backend) : backend_(std::move(backend)) {}

  Backend backend_;
};

}  // namespace longscan

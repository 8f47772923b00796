// What tests choose of the emulated GPU: its size, and in which order threads and copies come.
#pragma once

#include <cstddef>

namespace longscan::cuda_on_cpu {

/// A kernel must not depend on it: what differs from order to order lacks a barrier.
enum class Order { forward, reverse, random };

/// When an asynchronous copy is there: as it is issued, or only when it is waited for. In random
/// order, late copies are early now and then.
enum class Arrival { early, late };

struct Configuration {
  Order order = Order::forward;
  Arrival arrival = Arrival::late;
  unsigned seed = 1;
  int devices = 1;
  int multiprocessors = 8;  ///< few, so that small tests too have more work than blocks
  std::size_t device_bytes = std::size_t{16} << 30;
  std::size_t block_shared_bytes = 227 * 1024;
};

/// Begins as the environment says: CUDA_ON_CPU_ORDER=forward|reverse|random, CUDA_ON_CPU_SEED=n,
/// CUDA_ON_CPU_ARRIVAL=early|late. To be changed only while no kernel runs.
Configuration& configuration();

}  // namespace longscan::cuda_on_cpu

// Runs the blocks of a launch, one after the other, on the calling thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/cuda_on_cpu/async_copies.h"
#include "tests/cuda_on_cpu/configuration.h"
#include "tests/cuda_on_cpu/executor.h"
#include "tests/cuda_on_cpu/fiber.h"
#include "tests/cuda_on_cpu/shared_memory.h"

namespace longscan::cuda_on_cpu {

enum class ThreadState : std::uint8_t { fresh, ready, running, at_barrier, in_warp, done };

/// A thread with what the scheduler keeps of it.
struct ScheduledThread : Thread {
  ThreadState state = ThreadState::fresh;
  Fiber* fiber = nullptr;
  // Where it waits:
  Location location;
  std::uint32_t mask = 0;
  Combine combine = nullptr;
  void* record = nullptr;
  // How often it has met others, for the race checker:
  std::uint32_t warp_epoch = 0;
  AsyncCopies copies;
};

class Scheduler {
 public:
  static constexpr int kMostThreads = 1024;

  /// That of the calling thread: ranks that are threads launch beside each other.
  static Scheduler& here();

  void run(const LaunchShape& shape, void (*body)(const void*), const void* closure);

  int block_barrier(Vote vote, bool ballot, const Location& location);
  void meet_in_warp(std::uint32_t mask, void* record, Combine combine, const Location& location);

  ScheduledThread& running() { return static_cast<ScheduledThread&>(*current); }
  SharedMemory& shared() { return shared_; }
  /// Whether an asynchronous copy is to land as it is issued.
  bool next_copy_is_early();
  /// Ends the launch when the present thread lets go, where it must not throw.
  void note_fault(const std::string& what);

  // For the race checker.
  std::uint64_t block_number() const { return block_number_; }
  std::uint32_t barrier_epoch() const { return barrier_epoch_; }

 private:
  struct FiberLife {
    Scheduler* scheduler = nullptr;
    ScheduledThread* first = nullptr;  // to begin with when the fiber is woken
    std::unique_ptr<Fiber> fiber;
  };

  void prepare(const LaunchShape& shape);
  std::vector<std::int64_t> block_order(std::int64_t blocks);
  void run_block(std::int64_t index);

  static void live(void* life);
  void run_thread(ScheduledThread& thread);
  /// Suspends the present thread until another one has made it ready.
  void suspend();
  void wake_fiber_for(ScheduledThread& thread);
  void switch_to(Fiber& from, ScheduledThread& next);
  [[noreturn]] void abandon(Fiber& from);

  void make_all_ready();
  void make_ready(int warp, std::uint32_t lanes);
  std::uint32_t lanes_of(int warp) const;
  /// The next ready thread, of the warp that ran last as long as it can go on: without a barrier
  /// warps so come as far apart as they can. Null where no thread is ready.
  ScheduledThread* pop();
  void release_barrier();
  void release_warp(const ScheduledThread& last, Combine combine);
  void require_same_meeting(const ScheduledThread& mine, const ScheduledThread& other) const;
  std::string describe_deadlock() const;

  Fiber main_;
  std::vector<std::unique_ptr<FiberLife>> fibers_;
  std::vector<FiberLife*> free_fibers_;

  std::vector<ScheduledThread> threads_;
  // Of every warp:
  std::array<std::uint32_t, kMostThreads / kWarpSize> waiting_lanes_{};
  std::array<std::uint32_t, kMostThreads / kWarpSize> ready_lanes_{};
  std::uint32_t ready_warps_ = 0;
  int last_warp_ = 0;

  LaunchShape shape_;
  void (*body_)(const void*) = nullptr;
  const void* closure_ = nullptr;
  Order order_ = Order::forward;
  std::minstd_rand random_;
  Block block_{};
  SharedMemory shared_;
  std::uint64_t block_number_ = 0;
  std::uint32_t barrier_epoch_ = 0;
  int done_ = 0;
  std::string fault_;

  // The barrier that threads are waiting at.
  int arrived_ = 0;
  int ballots_ = 0;
  Vote vote_ = Vote::none;
  int outcome_ = 0;
  Location barrier_location_;
};

}  // namespace longscan::cuda_on_cpu

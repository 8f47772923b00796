// Fibers that take turns: a thread runs until it must wait, then switches to the next ready one.
#include "tests/cuda_on_cpu/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <numeric>
#include <utility>

#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/race_hooks.h"

namespace longscan::cuda_on_cpu {

constinit thread_local Thread* current = nullptr;

Scheduler& Scheduler::here() {
  static thread_local Scheduler instance;
  return instance;
}

namespace {

// The place of one of the bits that are set: the lowest, the highest or any.
int choose_bit(std::uint32_t bits, Order order, std::minstd_rand& random) {
  if (order == Order::forward) return std::countr_zero(bits);
  if (order == Order::reverse) return 31 - std::countl_zero(bits);
  auto skipped = random() % static_cast<unsigned>(std::popcount(bits));
  while (skipped-- > 0) bits &= bits - 1;
  return std::countr_zero(bits);
}

}  // namespace

void Scheduler::make_ready(int warp, std::uint32_t lanes) {
  ready_lanes_[warp] |= lanes;
  ready_warps_ |= static_cast<std::uint32_t>(lanes != 0) << warp;
}

void Scheduler::make_all_ready() {
  const int warps = (static_cast<int>(threads_.size()) + kWarpSize - 1) / kWarpSize;
  for (int warp = 0; warp < warps; ++warp) make_ready(warp, lanes_of(warp));
  last_warp_ = choose_bit(ready_warps_, order_, random_);
}

std::uint32_t Scheduler::lanes_of(int warp) const {
  const int lanes = std::min(kWarpSize, static_cast<int>(threads_.size()) - warp * kWarpSize);
  return kWholeWarp >> (kWarpSize - lanes);
}

ScheduledThread* Scheduler::pop() {
  if (ready_warps_ == 0) return nullptr;
  constexpr unsigned kStays = 16;  // in random order, for that many turns on average
  const bool stays =
      ready_lanes_[last_warp_] != 0 && (order_ != Order::random || random_() % kStays != 0);
  if (!stays) last_warp_ = choose_bit(ready_warps_, order_, random_);
  std::uint32_t& lanes = ready_lanes_[last_warp_];
  const int lane = choose_bit(lanes, order_, random_);
  lanes &= ~(1u << lane);
  if (lanes == 0) ready_warps_ &= ~(1u << last_warp_);
  return &threads_[last_warp_ * kWarpSize + lane];
}

void Scheduler::note_fault(const std::string& what) {
  if (fault_.empty()) fault_ = what;
}

void Scheduler::switch_to(Fiber& from, ScheduledThread& next) {
  next.state = ThreadState::running;
  current = &next;
  Fiber::switch_to(from, *next.fiber);
}

void Scheduler::abandon(Fiber& from) {
  current = nullptr;
  Fiber::switch_to(from, main_);
  std::abort();  // the main fiber restarts those that have been abandoned
}

void Scheduler::wake_fiber_for(ScheduledThread& thread) {
  if (free_fibers_.empty()) {
    auto life = std::make_unique<FiberLife>();
    life->scheduler = this;
    life->fiber = std::make_unique<Fiber>(live, life.get());
    free_fibers_.push_back(life.get());
    fibers_.push_back(std::move(life));
  }
  FiberLife* life = free_fibers_.back();
  free_fibers_.pop_back();
  life->first = &thread;
  thread.fiber = life->fiber.get();
}

void Scheduler::suspend() {
  ScheduledThread& mine = running();
  ScheduledThread* next = pop();
  if (next == nullptr) note_fault(describe_deadlock());
  if (!fault_.empty()) abandon(*mine.fiber);
  if (next == &mine) {
    mine.state = ThreadState::running;
    return;
  }
  if (next->state == ThreadState::fresh) wake_fiber_for(*next);
  switch_to(*mine.fiber, *next);
}

void Scheduler::run_thread(ScheduledThread& thread) {
  current = &thread;
  thread.state = ThreadState::running;
  try {
    body_(closure_);
    if (thread.copies.in_flight() > 0) {
      fail(fmt::format("{} asynchronous copies are never waited for", thread.copies.in_flight()));
    }
  } catch (const std::exception& error) {
    note_fault(error.what());
  }
  thread.state = ThreadState::done;
  ++done_;
}

// A fiber runs one thread after the other: a kernel without barriers needs one stack, and a thread
// of it costs a call.
void Scheduler::live(void* opaque) {
  FiberLife& life = *static_cast<FiberLife*>(opaque);
  Scheduler& scheduler = *life.scheduler;
  Fiber& fiber = *life.fiber;
  for (;;) {
    scheduler.run_thread(*life.first);
    if (!scheduler.fault_.empty()) scheduler.abandon(fiber);
    ScheduledThread* next = scheduler.pop();
    if (next != nullptr && next->state == ThreadState::fresh) {
      next->fiber = &fiber;
      life.first = next;
      continue;
    }
    if (next == nullptr && scheduler.done_ < static_cast<int>(scheduler.threads_.size())) {
      scheduler.note_fault(scheduler.describe_deadlock());
      scheduler.abandon(fiber);
    }
    scheduler.free_fibers_.push_back(&life);
    if (next != nullptr) {
      scheduler.switch_to(fiber, *next);
    } else {
      current = nullptr;
      Fiber::switch_to(fiber, scheduler.main_);
    }
  }
}

void Scheduler::prepare(const LaunchShape& shape) {
  const auto blocks = static_cast<std::uint64_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
  const auto threads = static_cast<std::uint64_t>(shape.block.x) * shape.block.y * shape.block.z;
  const dim3 &grid = shape.grid, &block = shape.block;
  const bool too_large = threads > kMostThreads || block.z > 64 || grid.x > 0x7fffffffu ||
                         grid.y > 65535 || grid.z > 65535;
  if (blocks == 0 || threads == 0 || too_large) {
    throw Fault(fmt::format("launch at {}: a grid of {} x {} x {} blocks of {} x {} x {} threads",
                            describe(shape.where), grid.x, grid.y, grid.z, block.x, block.y,
                            block.z));
  }
  if (shape.shared_bytes < 0 ||
      shape.shared_bytes > static_cast<std::int64_t>(configuration().block_shared_bytes)) {
    throw Fault(fmt::format("launch at {}: {} bytes of dynamic shared memory",
                            describe(shape.where), shape.shared_bytes));
  }
  shape_ = shape;
  order_ = configuration().order;
  random_.seed(configuration().seed);
  block_.extent = block;
  block_.grid = grid;
  shared_.begin_launch(static_cast<std::size_t>(shape.shared_bytes));
  if (threads_.size() != threads) threads_ = std::vector<ScheduledThread>(threads);
}

void Scheduler::run(const LaunchShape& shape, void (*body)(const void*), const void* closure) {
  if (current != nullptr) fail("a kernel launches a kernel");
  prepare(shape);
  body_ = body;
  closure_ = closure;
  const DeviceMemoryOpen open;
  if (race_hooks != nullptr) race_hooks->begin_launch();
  fault_.clear();
  const std::int64_t blocks = static_cast<std::int64_t>(shape.grid.x) * shape.grid.y * shape.grid.z;
  if (order_ == Order::random) {
    for (const std::int64_t index : block_order(blocks)) run_block(index);
  } else {
    for (std::int64_t i = 0; i < blocks; ++i) {
      run_block(order_ == Order::forward ? i : blocks - 1 - i);
    }
  }
  if (race_hooks != nullptr) note_fault(race_hooks->end_launch());
  if (!fault_.empty()) throw Fault(fmt::format("launch at {}: {}", describe(shape.where), fault_));
}

std::vector<std::int64_t> Scheduler::block_order(std::int64_t blocks) {
  std::vector<std::int64_t> order(blocks);
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::shuffle(order.begin(), order.end(), random_);
  return order;
}

void Scheduler::run_block(std::int64_t index) {
  static std::atomic<std::uint64_t> blocks_so_far{0};
  if (!fault_.empty()) return;
  const int count = static_cast<int>(threads_.size());
  const dim3 grid = block_.grid, extent = block_.extent;
  block_.index = {static_cast<unsigned>(index % grid.x),
                  static_cast<unsigned>(index / grid.x % grid.y),
                  static_cast<unsigned>(index / (static_cast<std::int64_t>(grid.x) * grid.y))};
  block_number_ = ++blocks_so_far;
  barrier_epoch_ = 0;
  done_ = arrived_ = ballots_ = 0;
  ready_lanes_.fill(0);
  ready_warps_ = 0;
  waiting_lanes_.fill(0);
  shared_.begin_block();
  for (int rank = 0; rank < count; ++rank) {
    ScheduledThread& thread = threads_[rank];
    const auto number = static_cast<unsigned>(rank);
    thread.index = {number % extent.x, number / extent.x % extent.y,
                    number / (extent.x * extent.y)};
    thread.rank = rank;
    thread.block = &block_;
    thread.state = ThreadState::fresh;
    thread.warp_epoch = 0;
    thread.copies.clear();
  }
  make_all_ready();
  ScheduledThread& first = *pop();
  wake_fiber_for(first);
  switch_to(main_, first);
  try {
    if (fault_.empty()) shared_.end_block();
  } catch (const Fault& fault) {
    note_fault(fault.what());
  }
  if (!fault_.empty()) {
    free_fibers_.clear();
    for (auto& life : fibers_) {
      life->fiber->restart();
      free_fibers_.push_back(life.get());
    }
  }
}

bool Scheduler::next_copy_is_early() {
  return configuration().arrival == Arrival::early ||
         (order_ == Order::random && (random_() >> 8 & 1) != 0);
}

}  // namespace longscan::cuda_on_cpu

// A fixed set of threads that share the iterations of a loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace longscan {

/// `threads - 1` workers and the caller. One loop at a time; not for nested use. Which thread runs
/// which iteration is not fixed, so an iteration must not depend on it (scratch memory excepted).
class ThreadPool {
 public:
  /// Throws usage when the system does not give that many threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls `body(index, thread)` for every index in [0, count), `thread` in [0, threads()). Returns
  /// when all are done; the first exception of a body is thrown here.
  void for_each(std::int64_t count, const std::function<void(std::int64_t, int)>& body);

 private:
  void stop();
  void work(int thread);
  void take_indices(int thread);

  std::vector<std::thread> workers_;
  const std::function<void(std::int64_t, int)>* body_ = nullptr;
  std::int64_t count_ = 0;
  std::atomic<std::int64_t> next_{0};
  std::atomic<std::uint32_t> round_{0};
  std::atomic<int> running_{0};
  bool stopping_ = false;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
};

}  // namespace longscan

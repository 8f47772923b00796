// The CPU backend: threads, scratch memory, and loops over blocks of a range.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/recording.h"

namespace longscan {

class Cpu {
 public:
  /// `threads` at least one. Sets the BLAS library to one thread: the loops here are what is
  /// parallel.
  explicit Cpu(int threads);

  int threads() const { return pool_->threads(); }
  int multiprocessors() const { return 0; }
  std::string name() const { return "CPU"; }
  /// What is resident.
  std::int64_t memory_used() const;

  // A device's memory is the host's, and operations have ended when they return.
  Buffer allocate(std::int64_t bytes) { return Buffer(bytes); }
  Buffer allocate_on_host(std::int64_t bytes) { return Buffer(bytes); }
  void upload(void* to, const void* from, std::int64_t bytes) { copy(to, from, bytes); }
  void download(void* to, const void* from, std::int64_t bytes) { copy(to, from, bytes); }
  void synchronize() {}
  void replay(Recording&, const std::function<void()>& body) { body(); }

  /// Calls `body(index, thread)` for every index in [0, count), in parallel.
  template <class Body>
  void for_each(std::int64_t count, const Body& body) {
    pool_->for_each(count, body);
  }

  /// Cuts [0, count) into blocks of `block` and calls `body(begin, end, thread)` for each, in
  /// parallel. The cuts do not depend on the number of threads, so neither do sums over a block.
  template <class Body>
  void for_blocks(std::int64_t count, std::int64_t block, const Body& body) {
    pool_->for_each((count + block - 1) / block, [&](std::int64_t index, int thread) {
      body(index * block, std::min(count, (index + 1) * block), thread);
    });
  }

  /// Scratch memory of one thread, kept from call to call and grown when needed. Contents are
  /// undefined.
  template <class T>
  T* scratch(int thread, std::int64_t count) {
    return reinterpret_cast<T*>(grown(scratch_[thread], count * sizeof(T)));
  }
  /// Scratch memory that all threads of one operation share; to be asked for before the parallel
  /// loop.
  template <class T>
  T* shared_scratch(std::int64_t count) {
    return reinterpret_cast<T*>(grown(scratch_.back(), count * sizeof(T)));
  }

 private:
  static void copy(void* to, const void* from, std::int64_t bytes);
  static std::byte* grown(Buffer& buffer, std::int64_t bytes);

  std::unique_ptr<ThreadPool> pool_;
  std::vector<Buffer> scratch_;
};

}  // namespace longscan

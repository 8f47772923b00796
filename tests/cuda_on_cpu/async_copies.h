// The asynchronous copies of one thread that have not landed yet.
#pragma once

#include <cstddef>
#include <vector>

namespace longscan::cuda_on_cpu {

/// It may land as soon as it is issued, or not before it is waited for.
struct AsyncCopy {
  void* to;
  const void* from;
  std::size_t bytes;
  std::size_t zeros;  // at the end
  bool landed = false;
};

class AsyncCopies {
 public:
  void issue(const AsyncCopy& copy) { copies_.push_back(copy); }
  void commit() { groups_.push_back(copies_.size()); }
  /// Ends all groups but the latest `prior`, for a call that returns to `code`.
  void wait(std::size_t prior, const void* code);
  void clear();
  std::size_t in_flight() const { return copies_.size(); }

 private:
  std::vector<AsyncCopy> copies_;
  std::vector<std::size_t> groups_;  // how many copies there were when it was committed
};

}  // namespace longscan::cuda_on_cpu

// The asynchronous copies of one thread that have not landed yet.
#pragma once

#include <cstddef>
#include <vector>

namespace longscan::cuda_on_cpu {

struct AsyncCopy {
  void* to;
  const void* from;
  std::size_t bytes;
  std::size_t zeros;  // at the end
};

class AsyncCopies {
 public:
  void issue(const AsyncCopy& copy, bool early);
  void commit() { groups_.push_back(copies_.size()); }
  /// Lands all groups but the latest `prior`.
  void wait(std::size_t prior);
  void clear();
  std::size_t in_flight() const { return copies_.size(); }

 private:
  std::vector<AsyncCopy> copies_;
  std::vector<std::size_t> groups_;  // how many copies there were when it was committed
};

}  // namespace longscan::cuda_on_cpu

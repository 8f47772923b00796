// The CUDA backend: one GPU, the stream that its operations run on one after the other, and scratch
// memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "kernels/buffer.h"
#include "kernels/recording.h"

// As CUDA's headers declare them, which users of the library need not have.
struct CUstream_st;
struct CUevent_st;

namespace longscan {

struct CudaOptions;
struct Faults;
class Blas;

class Cuda {
 public:
  Cuda(int index, const CudaOptions& options);
  Cuda(Cuda&&) noexcept;
  Cuda& operator=(Cuda&&) noexcept;
  ~Cuda();

  int threads() const { return 1; }
  int multiprocessors() const { return multiprocessors_; }
  std::string name() const;
  /// By all programs on this GPU, the driver's own included.
  std::int64_t memory_used() const;

  Buffer allocate(std::int64_t bytes);
  Buffer allocate_on_host(std::int64_t bytes);
  void upload(void* to, const void* from, std::int64_t bytes);
  void download(void* to, const void* from, std::int64_t bytes);
  /// Throws data where an operation has met bad data since the last call.
  void synchronize();
  /// At first runs `body`, then records it as a CUDA graph, then launches that.
  void replay(Recording& recording, const std::function<void()>& body);

  /// While the host waits for the GPU it calls `check` again and again, once at least: for whoever
  /// knows that what the GPU waits for will never come, and throws. Returns a number for `unwatch`.
  int watch(std::function<void()> check);
  void unwatch(int watcher);

  // For the operations.
  CUstream_st* stream() const { return stream_.get(); }
  int index() const { return index_; }
  /// Bytes of shared memory that a block may have.
  std::int64_t shared_memory() const { return shared_memory_; }
  /// Where kernels report bad data, in the GPU's memory.
  Faults* faults() const { return reinterpret_cast<Faults*>(faults_.data()); }
  Blas& blas() { return *blas_; }
  /// Scratch memory of one operation, kept from call to call and grown when needed. Contents are
  /// undefined.
  template <class T>
  T* scratch(std::int64_t count) {
    return reinterpret_cast<T*>(scratch_bytes(count * static_cast<std::int64_t>(sizeof(T))));
  }

 private:
  struct DestroyStream {
    void operator()(CUstream_st* stream) const;
  };

  struct DestroyEvent {
    void operator()(CUevent_st* event) const;
  };
  /// Host memory that uploads go through, so that nobody waits for them: filled from the front, and
  /// again once the copies out of it are done.
  struct Half {
    Buffer memory;
    std::int64_t used = 0;
    std::unique_ptr<CUevent_st, DestroyEvent> copied;
  };

  std::byte* scratch_bytes(std::int64_t bytes);
  std::byte* upload_room(std::int64_t bytes);
  void record(Recording& recording, const std::function<void()>& body);
  void wait();
  /// Until `query` gives another answer than "not ready"; by `wait` where nobody watches.
  template <class Query, class Wait>
  void wait_until(Query&& query, Wait&& wait);
  void throw_faults();

  int index_;
  int multiprocessors_ = 0;
  std::int64_t shared_memory_ = 0;
  std::unique_ptr<CUstream_st, DestroyStream> stream_;
  Buffer faults_;
  Buffer faults_on_host_;
  Buffer scratch_;
  std::int64_t allocations_ = 0;
  Half halves_[2];
  int half_ = 0;
  std::unique_ptr<Blas> blas_;
  std::map<int, std::function<void()>> watchers_;
};

}  // namespace longscan

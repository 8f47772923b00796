// A second stream of a GPU, for what goes on beside its operations.
#pragma once

#include <memory>
#include <vector>

// As CUDA's headers declare them, which users of the library need not have.
struct CUstream_st;
struct CUevent_st;

namespace longscan {

class Cuda;

/// The two streams wait for each other on the GPU; the host waits for neither.
class SideStream {
  struct DestroyEvent {
    void operator()(CUevent_st* event) const;
  };

 public:
  /// A place in the stream: behind all that had been given to it.
  using Mark = std::unique_ptr<CUevent_st, DestroyEvent>;

  /// For the calling thread. `cuda` must outlive the stream.
  explicit SideStream(const Cuda& cuda);

  CUstream_st* stream() const { return stream_.get(); }

  /// What is given to this stream from now on waits for the operations that were run.
  void follow_operations();
  [[nodiscard]] Mark mark();
  /// Operations that are run from now on wait for what lies before the mark.
  void operations_follow(Mark mark);

 private:
  struct DestroyStream {
    void operator()(CUstream_st* stream) const;
  };

  const Cuda& cuda_;
  std::unique_ptr<CUstream_st, DestroyStream> stream_;
  std::vector<Mark> free_;  // to be used again
};

}  // namespace longscan

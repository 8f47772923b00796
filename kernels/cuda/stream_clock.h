// How long what is given to a stream takes on the GPU, measured without waiting for it.
#pragma once

#include <deque>
#include <memory>
#include <vector>

// As CUDA's headers declare them, which users of the library need not have.
struct CUstream_st;
struct CUevent_st;

namespace longscan {

class StreamClock {
 public:
  /// Of what is given to the stream between the two. What is captured does not count: it runs some
  /// other time, if ever.
  void start(CUstream_st* stream);
  void stop(CUstream_st* stream);

  /// Seconds of all that has ended.
  double seconds();

 private:
  struct DestroyEvent {
    void operator()(CUevent_st* event) const;
  };
  using Event = std::unique_ptr<CUevent_st, DestroyEvent>;
  struct Span {
    Event begin;
    Event end;
  };
  static Event make_event();
  void add_up();

  Span open_;
  bool is_open_ = false;
  std::deque<Span> running_;
  std::vector<Span> free_;  // to be used again
  double seconds_ = 0;
};

}  // namespace longscan

// A flow of execution with a stack of its own, switched to by hand.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#define LONGSCAN_FIBERS_BY_UCONTEXT 1
#endif
#if defined(LONGSCAN_FIBERS_BY_UCONTEXT)
#include <ucontext.h>
#endif

namespace longscan::cuda_on_cpu {

class Fiber {
 public:
  /// The calling thread, on the stack that it has.
  Fiber() = default;
  /// Calls `entry(argument)` when first switched to; entry must never return.
  Fiber(void (*entry)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Forgets where the fiber stands, so that it begins anew. Frames on its stack are dropped, not
  /// unwound.
  void restart();

  /// Suspends `from`, which is the one that runs, and goes on in `to`.
  static void switch_to(Fiber& from, Fiber& to);

  bool stack_holds(const void* address) const;

 private:
  friend void begin_fiber();
  [[noreturn]] void begin();
  static void arrive(Fiber& here);

#if defined(LONGSCAN_FIBERS_BY_UCONTEXT)
  ucontext_t context_{};
#else
  void* stack_pointer_ = nullptr;
#endif
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::byte* stack_ = nullptr;  // its low end
  std::size_t stack_bytes_ = 0;
  bool owns_stack_ = false;
  void* fake_stack_ = nullptr;  // the address sanitizer's
};

}  // namespace longscan::cuda_on_cpu

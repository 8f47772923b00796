// Stacks with a guard page, and the switch between them.
#include "tests/cuda_on_cpu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "tests/cuda_on_cpu/sanitizers.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr std::size_t kGuardBytes = 4096;
constexpr std::size_t kStackBytes = 256 * 1024;  // only what is touched becomes memory

// Whom the switch under way leaves, and whom it reaches: the new stack has no other way to know.
thread_local Fiber* leaving = nullptr;
thread_local Fiber* reaching = nullptr;

}  // namespace

#if !defined(LONGSCAN_FIBERS_BY_UCONTEXT)
// Keeps what a called function must keep, and leaves the rest to the compiler: the kernel's own way
// would save the signal mask too, at the price of a system call.
extern "C" void longscan_switch_stack(void** from, void* to);
asm(R"(
.text
.globl longscan_switch_stack
.type longscan_switch_stack, @function
longscan_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size longscan_switch_stack, .-longscan_switch_stack
)");
#endif

void begin_fiber() {
  reaching->begin();
}

Fiber::Fiber(void (*entry)(void*), void* argument)
    : entry_(entry), argument_(argument), stack_bytes_(kStackBytes), owns_stack_(true) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  stack_ = static_cast<std::byte*>(memory) + kGuardBytes;
  restart();
}

Fiber::~Fiber() {
  if (owns_stack_) munmap(stack_ - kGuardBytes, kGuardBytes + kStackBytes);
}

void Fiber::restart() {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  fake_stack_ = nullptr;
#if defined(LONGSCAN_FIBERS_BY_UCONTEXT)
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, begin_fiber, 0);
#else
  // As longscan_switch_stack leaves a stack: six registers, then where to return to. A function
  // finds the stack 8 bytes beside a multiple of 16 when it is entered.
  void** top = reinterpret_cast<void**>(stack_ + stack_bytes_) - 8;
  top[6] = reinterpret_cast<void*>(begin_fiber);
  top[7] = nullptr;
  stack_pointer_ = top;
#endif
}

void Fiber::begin() {
  arrive(*this);
  entry_(argument_);
  std::abort();  // entry has returned, and there is nowhere to go
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  leaving = &from;
  reaching = &to;
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.stack_bytes_);
#endif
#if defined(LONGSCAN_FIBERS_BY_UCONTEXT)
  swapcontext(&from.context_, &to.context_);
#else
  longscan_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#endif
  arrive(from);
}

// The address sanitizer is told of every switch, and tells the bounds of the stack that was left,
// which for a thread's own stack nobody else knows.
void Fiber::arrive([[maybe_unused]] Fiber& here) {
#if defined(LONGSCAN_ADDRESS_SANITIZER)
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(here.fake_stack_, &bottom, &bytes);
  if (!leaving->owns_stack_) {
    leaving->stack_ = static_cast<std::byte*>(const_cast<void*>(bottom));
    leaving->stack_bytes_ = bytes;
  }
#endif
}

bool Fiber::stack_holds(const void* address) const {
  const auto* place = static_cast<const std::byte*>(address);
  return place >= stack_ && place < stack_ + stack_bytes_;
}

}  // namespace longscan::cuda_on_cpu

// What the compiler calls before every access in files compiled with -fsanitize=thread: these
// functions stand in for the thread sanitizer's library, which knows neither fibers nor barriers.
// None of them may throw.
#include "tests/cuda_on_cpu/race_hooks.h"

#include <cstdint>

#include "tests/cuda_on_cpu/race_checker.h"

using longscan::cuda_on_cpu::AccessKind;
using longscan::cuda_on_cpu::RaceChecker;
using longscan::cuda_on_cpu::RaceHooks;

namespace {

void begin_launch() {
  RaceChecker::here().begin_launch();
}

void note_access(const void* address, std::size_t bytes, AccessKind kind, const void* code) {
  RaceChecker::here().note(address, bytes, kind, code);
}

std::string end_launch() {
  return RaceChecker::here().end_launch();
}

constexpr RaceHooks kHooks{begin_launch, note_access, end_launch};

inline void note(const volatile void* address, std::size_t bytes, AccessKind kind,
                 const void* code) {
  RaceChecker::here().note(const_cast<const void*>(address), bytes, kind, code);
}

}  // namespace

// The compiler has these names built in, for calls of its own making.
#pragma GCC diagnostic ignored "-Wbuiltin-declaration-mismatch"

#define CALLER __builtin_return_address(0)

extern "C" {

void __tsan_init() {
  longscan::cuda_on_cpu::race_hooks = &kHooks;
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
void __tsan_atomic_thread_fence(int) {}

#define HOOKS_OF_SIZE(size)                    \
  void __tsan_read##size(void* p) {            \
    note(p, size, AccessKind::read, CALLER);   \
  }                                            \
  void __tsan_write##size(void* p) {           \
    note(p, size, AccessKind::write, CALLER);  \
  }                                            \
  void __tsan_unaligned_read##size(void* p) {  \
    note(p, size, AccessKind::read, CALLER);   \
  }                                            \
  void __tsan_unaligned_write##size(void* p) { \
    note(p, size, AccessKind::write, CALLER);  \
  }
HOOKS_OF_SIZE(1)
HOOKS_OF_SIZE(2)
HOOKS_OF_SIZE(4)
HOOKS_OF_SIZE(8)
HOOKS_OF_SIZE(16)

void __tsan_read_range(void* p, unsigned long bytes) {
  note(p, bytes, AccessKind::read, CALLER);
}
void __tsan_write_range(void* p, unsigned long bytes) {
  note(p, bytes, AccessKind::write, CALLER);
}

// Truly atomic, for the sake of the host's threads, which come here too.
#define CHANGE_HOOK(bits, name, change)                                                    \
  Word##bits __tsan_atomic##bits##_##name(volatile Word##bits* p, Word##bits value, int) { \
    note(p, sizeof *p, AccessKind::atomic_write, CALLER);                                  \
    return change(p, value, __ATOMIC_SEQ_CST);                                             \
  }
#define EXCHANGE_HOOK(bits, name)                                                                  \
  int __tsan_atomic##bits##_##name(volatile Word##bits* p, Word##bits* expected, Word##bits value, \
                                   int, int) {                                                     \
    note(p, sizeof *p, AccessKind::atomic_write, CALLER);                                          \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST,                \
                                       __ATOMIC_SEQ_CST);                                          \
  }
#define ATOMIC_HOOKS(bits)                                                          \
  using Word##bits = std::uint##bits##_t;                                           \
  Word##bits __tsan_atomic##bits##_load(const volatile Word##bits* p, int) {        \
    note(p, sizeof *p, AccessKind::atomic_read, CALLER);                            \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                    \
  }                                                                                 \
  void __tsan_atomic##bits##_store(volatile Word##bits* p, Word##bits value, int) { \
    note(p, sizeof *p, AccessKind::atomic_write, CALLER);                           \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                   \
  }                                                                                 \
  EXCHANGE_HOOK(bits, compare_exchange_strong)                                      \
  EXCHANGE_HOOK(bits, compare_exchange_weak)                                        \
  Word##bits __tsan_atomic##bits##_compare_exchange_val(                            \
      volatile Word##bits* p, Word##bits expected, Word##bits value, int, int) {    \
    __tsan_atomic##bits##_compare_exchange_strong(p, &expected, value, 0, 0);       \
    return expected;                                                                \
  }                                                                                 \
  CHANGE_HOOK(bits, exchange, __atomic_exchange_n)                                  \
  CHANGE_HOOK(bits, fetch_add, __atomic_fetch_add)                                  \
  CHANGE_HOOK(bits, fetch_sub, __atomic_fetch_sub)                                  \
  CHANGE_HOOK(bits, fetch_and, __atomic_fetch_and)                                  \
  CHANGE_HOOK(bits, fetch_or, __atomic_fetch_or)                                    \
  CHANGE_HOOK(bits, fetch_xor, __atomic_fetch_xor)
ATOMIC_HOOKS(8)
ATOMIC_HOOKS(16)
ATOMIC_HOOKS(32)
ATOMIC_HOOKS(64)

}  // extern "C"

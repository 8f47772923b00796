// CUDA's functions for one thread: atomics, loads and stores, fast arithmetic, bits, asynchronous
// copies.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tests/cuda_on_cpu/executor.h"

namespace longscan::cuda_on_cpu {

// Made of the host's atomics, so that the race checker knows them for what they are.
template <class T, class Change>
T atomic_change(T* address, Change change) {
  using Word = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  static_assert(sizeof(Word) == sizeof(T));
  auto* word = reinterpret_cast<Word*>(address);
  Word old = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    const Word changed = std::bit_cast<Word>(static_cast<T>(change(std::bit_cast<T>(old))));
    if (__atomic_compare_exchange_n(word, &old, changed, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      return std::bit_cast<T>(old);
    }
  }
}

// Signed integers wrap round on the GPU.
template <class T>
T wrapping_sum(T left, T right) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(left) + static_cast<Unsigned>(right));
  } else {
    return left + right;
  }
}

}  // namespace longscan::cuda_on_cpu

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(
      address, [value](T old) { return longscan::cuda_on_cpu::wrapping_sum(old, value); });
}
template <class T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return atomicAdd(address, static_cast<T>(-value));
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(address, [value](T) { return value; });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(address,
                                              [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(address,
                                              [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(address, [value](T old) { return old & value; });
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(address, [value](T old) { return old | value; });
}
template <class T>
T atomicXor(T* address, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(address, [value](T old) { return old ^ value; });
}
inline unsigned atomicInc(unsigned* address, unsigned most) {
  return longscan::cuda_on_cpu::atomic_change(
      address, [most](unsigned old) { return old >= most ? 0u : old + 1u; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return longscan::cuda_on_cpu::atomic_change(
      address, [expected, value](T old) { return old == expected ? value : old; });
}

// Loads and stores that differ in what the GPU's caches keep.
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldca(const T* address) {
  return *address;
}
template <class T>
T __ldcg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
T __ldlu(const T* address) {
  return *address;
}
template <class T>
void __stwb(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <class T>
void __stwt(T* address, std::type_identity_t<T> value) {
  *address = value;
}

// Fast arithmetic. The C library declares some of these names, with C linkage, and defines none.
inline float __expf(float x) noexcept {
  return ::expf(x);
}
inline float __exp10f(float x) noexcept {
  return ::powf(10.0f, x);
}
inline float __logf(float x) noexcept {
  return ::logf(x);
}
inline float __log2f(float x) noexcept {
  return ::log2f(x);
}
inline float __powf(float x, float y) noexcept {
  return ::powf(x, y);
}
inline float __sinf(float x) noexcept {
  return ::sinf(x);
}
inline float __cosf(float x) noexcept {
  return ::cosf(x);
}
inline float __tanhf(float x) noexcept {
  return ::tanhf(x);
}
inline void __sincosf(float x, float* sine, float* cosine) noexcept {
  *sine = ::sinf(x);
  *cosine = ::cosf(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fsub_rn(float x, float y) {
  return x - y;
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fdiv_rn(float x, float y) {
  return x / y;
}
inline float __fmaf_rn(float x, float y, float z) {
  return ::fmaf(x, y, z);
}
inline float __frcp_rn(float x) {
  return 1.0f / x;
}
inline float __fsqrt_rn(float x) {
  return ::sqrtf(x);
}
inline float __frsqrt_rn(float x) {
  return 1.0f / ::sqrtf(x);
}
inline float rsqrtf(float x) {
  return 1.0f / ::sqrtf(x);
}
inline double rsqrt(double x) {
  return 1.0 / ::sqrt(x);
}
inline float __saturatef(float x) {
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;  // NaN becomes 0
}

// Bits.
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline long long __double_as_longlong(double x) {
  return std::bit_cast<long long>(x);
}
inline double __longlong_as_double(long long x) {
  return std::bit_cast<double>(x);
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return std::countl_zero(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1;
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(static_cast<std::uint64_t>(x) * y >> 32);
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = selector >> (4 * i) & 0xf;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (choice & 7)) & 0xff);
    if ((choice & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;  // its sign, eight times
    result |= byte << (8 * i);
  }
  return result;
}

// Of two types as in arithmetic; a NaN loses against a number.
template <class Left, class Right>
std::common_type_t<Left, Right> min(Left left, Right right) {
  using T = std::common_type_t<Left, Right>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmin(static_cast<T>(left), static_cast<T>(right));
  } else {
    return static_cast<T>(right) < static_cast<T>(left) ? static_cast<T>(right)
                                                        : static_cast<T>(left);
  }
}
template <class Left, class Right>
std::common_type_t<Left, Right> max(Left left, Right right) {
  using T = std::common_type_t<Left, Right>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::fmax(static_cast<T>(left), static_cast<T>(right));
  } else {
    return static_cast<T>(left) < static_cast<T>(right) ? static_cast<T>(right)
                                                        : static_cast<T>(left);
  }
}

// Asynchronous copies to shared memory.
inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes,
                                    std::size_t zeros = 0,
                                    std::source_location where = std::source_location::current()) {
  longscan::cuda_on_cpu::issue_copy(to, from, bytes, zeros, where);
}
inline void __pipeline_commit() {
  longscan::cuda_on_cpu::commit_copies();
}
inline void __pipeline_wait_prior(std::size_t groups) {
  longscan::cuda_on_cpu::wait_for_copies(groups);
}

// A disk that runs full while HDF5 writes.
#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <system_error>

namespace longscan {

inline constexpr std::int64_t kNeverFull = std::numeric_limits<std::int64_t>::max();

/// Bytes that HDF5 may still write to files named *.partial.
inline std::atomic<std::int64_t> bytes_until_full = kNeverFull;

inline bool is_temporary(int descriptor) {
  std::error_code error;
  const auto link = std::filesystem::path("/proc/self/fd") / std::to_string(descriptor);
  return std::filesystem::read_symlink(link, error).extension() == ".partial";
}

}  // namespace longscan

/// Stands before the C library's function, which HDF5 writes with. Weak, as inline functions are,
/// so that several sources of a program may include it.
extern "C" inline __attribute__((used)) ssize_t pwrite(int descriptor, const void* data,
                                                       size_t bytes, off_t offset) {
  using Write = ssize_t (*)(int, const void*, size_t, off_t);
  static const Write real_write = reinterpret_cast<Write>(dlsym(RTLD_NEXT, "pwrite"));
  if (longscan::bytes_until_full != longscan::kNeverFull && longscan::is_temporary(descriptor) &&
      (longscan::bytes_until_full -= static_cast<std::int64_t>(bytes)) < 0) {
    errno = ENOSPC;
    return -1;
  }
  return real_write(descriptor, data, bytes, offset);
}

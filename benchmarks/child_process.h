// A measurement in a process of its own: what others left in memory does not show.
#pragma once

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <type_traits>

namespace longscan::benchmark {

/// What `body` returns, from a child process; Result{} when it failed there. To be called while no
/// other thread runs.
template <class Result, class Body>
Result in_child(const Body& body) {
  static_assert(std::is_trivially_copyable_v<Result>);
  std::fflush(stdout);
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    try {
      const Result result = body();
      _exit(write(ends[1], &result, sizeof(result)) == sizeof(result) ? 0 : 1);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      _exit(1);
    }
  }
  close(ends[1]);
  Result result{};
  const bool whole = child > 0 && read(ends[0], &result, sizeof(result)) == sizeof(result);
  close(ends[0]);
  if (child > 0) waitpid(child, nullptr, 0);
  return whole ? result : Result{};
}

/// Bytes of memory this process has now, and the most it ever had.
inline double resident_bytes() {
  std::int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return static_cast<double>(resident * sysconf(_SC_PAGESIZE));
}
inline double peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

}  // namespace longscan::benchmark

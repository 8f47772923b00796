// Cores are shared out by what the ranks of a machine may use together: under mpirun they may be
// bound to a core each or all be free to use all cores.
#include "launch/session.h"

#include <sched.h>

#include <algorithm>
#include <bitset>
#include <cmath>
#include <vector>

#include "dist/agreement.h"
#include "io/host_name.h"

namespace longscan {

namespace {

using Cores = std::bitset<CPU_SETSIZE>;

Cores allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  Cores cores;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cores.set(0);
  for (std::size_t core = 0; core < cores.size(); ++core) cores[core] = CPU_ISSET(core, &set);
  return cores;
}

}  // namespace

int Session::threads(std::int64_t requested) const {
  const Cores mine = allowed_cores();
  const std::string host = host_name() + " ";
  const std::vector<std::string> places = gather_texts(world_, host + mine.to_string());
  if (requested > 0) return static_cast<int>(requested);
  Cores together;
  std::size_t ranks_here = 0;
  for (const std::string& place : places) {
    if (!place.starts_with(host)) continue;
    together |= Cores(place, host.size());
    ++ranks_here;
  }
  const std::size_t share = std::min(together.count() / ranks_here, mine.count());
  return static_cast<int>(std::max<std::size_t>(share, 1));
}

std::string Session::text_of_leader(std::string text) const {
  std::int64_t length = std::ssize(text);
  world_.broadcast(&length, sizeof(length), 0);
  text.resize(static_cast<std::size_t>(length));
  world_.broadcast(text.data(), length, 0);
  return text;
}

std::string counted(std::int64_t count, const char* noun) {
  return fmt::format("{} {}{}", grouped(count), noun, count == 1 ? "" : "s");
}

std::string grouped(std::int64_t number) {
  if (number < 1000) return fmt::format("{}", number);
  return fmt::format("{},{:03}", grouped(number / 1000), number % 1000);
}

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, units[unit]);
}

std::string duration_text(double seconds) {
  if (seconds < 60) return fmt::format("{:.{}f} s", seconds, seconds < 10 ? 1 : 0);
  const auto whole = std::llround(seconds);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace longscan

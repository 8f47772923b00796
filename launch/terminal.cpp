// Open MPI gives ranks a terminal of its own as standard output, whatever mpirun's output is. So a
// rank that mpirun has started looks at mpirun's.
#include "launch/terminal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace longscan {

namespace {

constexpr int kUsualWidth = 80;

int width_of(int descriptor) {
  if (isatty(descriptor) == 0) return 0;
  winsize size{};
  const bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : kUsualWidth;
}

int width_of_mpirun() {
  const std::string path = fmt::format("/proc/{}/fd/1", getppid());
  // Only what is a terminal already is opened: opening a pipe could block.
  char target[64] = {};
  if (readlink(path.c_str(), target, sizeof(target) - 1) < 0) return 0;
  if (!std::string(target).starts_with("/dev/")) return 0;
  const int descriptor = open(path.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC);
  if (descriptor < 0) return 0;
  const int width = width_of(descriptor);
  close(descriptor);
  return width;
}

}  // namespace

Terminal::Terminal()
    : width_(std::getenv("OMPI_COMM_WORLD_RANK") ? width_of_mpirun() : width_of(STDOUT_FILENO)) {}

Terminal::~Terminal() {
  if (live_.empty()) return;
  std::fputs("\n", stdout);
  std::fflush(stdout);
}

void Terminal::print(const std::string& line) {
  erase();
  std::fputs((line + "\n" + live_).c_str(), stdout);
  std::fflush(stdout);
}

void Terminal::draw(const std::string& line) {
  erase();
  live_ = line;
  std::fputs(live_.c_str(), stdout);
  std::fflush(stdout);
}

void Terminal::erase() {
  if (!live_.empty()) std::fputs("\r\x1b[K", stdout);
}

}  // namespace longscan

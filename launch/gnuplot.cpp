// No shell and no pipe: the script is gnuplot's standard input, from memory, and the picture its
// standard output.
#include "launch/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "io/atomic_file.h"
#include "kernels/error.h"

extern char** environ;  // NOLINT: POSIX has it declared by the program

namespace longscan {

namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

/// A file without a name, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : descriptor_(memfd_create(name, MFD_CLOEXEC)) {
    if (descriptor_ < 0) {
      throw Error(ErrorKind::io, {.what = "there is no file in memory", .why = reason(errno)});
    }
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  int descriptor() const { return descriptor_; }

  void write(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
      if (count < 0) {
        throw Error(ErrorKind::io, {.what = "cannot write to memory", .why = reason(errno)});
      }
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    ::lseek(descriptor_, 0, SEEK_SET);
  }
  /// What a child has written, up to 4 KiB.
  std::string beginning() const {
    std::array<char, 4096> text{};
    const ssize_t count = ::pread(descriptor_, text.data(), text.size(), 0);
    return {text.data(), static_cast<std::size_t>(count < 0 ? 0 : count)};
  }

 private:
  int descriptor_;
};

/// Where a child's standard streams come from and go to.
class Streams {
 public:
  Streams() { posix_spawn_file_actions_init(&actions_); }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  ~Streams() { posix_spawn_file_actions_destroy(&actions_); }

  void use(int stream, const MemoryFile& file) {
    posix_spawn_file_actions_adddup2(&actions_, file.descriptor(), stream);
  }
  void write_to(const std::filesystem::path& path) {
    posix_spawn_file_actions_addopen(&actions_, STDOUT_FILENO, path.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0666);
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

[[noreturn]] void refuse_without_gnuplot(const std::filesystem::path& path) {
  throw Error(ErrorKind::missing, {.what = "the picture cannot be drawn",
                                   .why = "there is no program gnuplot",
                                   .hint = "install the package gnuplot-nox",
                                   .where = path.string()});
}

/// Its exit status, or -1 where a signal has ended it.
int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

void run_gnuplot(const std::string& script, const std::filesystem::path& path) {
  // Made before the child is, so that what cannot be written is told apart from what cannot be run.
  AtomicFile picture(path);
  std::error_code ignored;
  std::filesystem::remove(picture.temporary(), ignored);
  FileDescriptor::create(picture.temporary()).write("");
  const MemoryFile input("script");
  input.write(script);
  const MemoryFile complaints("complaints");
  Streams streams;
  streams.use(STDIN_FILENO, input);
  streams.write_to(picture.temporary());
  streams.use(STDERR_FILENO, complaints);
  std::string name = "gnuplot";
  std::string by_default = "-d";  // without what the user has told gnuplot to begin with
  char* const arguments[] = {name.data(), by_default.data(), nullptr};
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, name.c_str(), streams.actions(), nullptr, arguments, environ);
  if (error == ENOENT) refuse_without_gnuplot(path);
  const int status = error != 0 ? error : wait_for(child);
  if (status == 127) refuse_without_gnuplot(path);  // where the child finds out
  if (status != 0 || std::filesystem::file_size(picture.temporary()) == 0) {
    throw Error(ErrorKind::io,
                {.what = "gnuplot has drawn nothing",
                 .why = error != 0 ? reason(error) : complaints.beginning(),
                 .hint = "see whether `gnuplot` runs and knows the terminal pngcairo",
                 .where = path.string()});
  }
  picture.publish();
}

}  // namespace longscan

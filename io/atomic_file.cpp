// System calls, each checked where it stands.
#include "io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace longscan {

namespace {

[[noreturn]] void throw_failure(const char* action, const std::filesystem::path& path, int error) {
  const std::string reason = std::generic_category().message(error);
  if (error == ENOENT && std::string_view(action) == "read") {
    throw Error(ErrorKind::missing, {.what = "there is no such file",
                                     .why = reason,
                                     .hint = "check the path",
                                     .where = path.string()});
  }
  std::string hint;
  if (error == ENOSPC || error == EDQUOT) hint = "free some space or choose another folder";
  if (error == EACCES || error == EPERM || error == EROFS) hint = "check who may write there";
  throw Error(ErrorKind::io, {.what = fmt::format("cannot {} the file", action),
                              .why = reason,
                              .hint = hint,
                              .where = path.string()});
}

const char* action_of(int flags) {
  return (flags & O_ACCMODE) == O_RDONLY ? "read" : "write";
}

}  // namespace

FileDescriptor::FileDescriptor(const std::filesystem::path& path, int flags) : path_(path) {
  do {
    descriptor_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) throw_failure(action_of(flags), path_, errno);
}

FileDescriptor FileDescriptor::open_for_reading(const std::filesystem::path& path) {
  return FileDescriptor(path, O_RDONLY);
}

FileDescriptor FileDescriptor::create(const std::filesystem::path& path) {
  return FileDescriptor(path, O_WRONLY | O_CREAT | O_EXCL);
}

FileDescriptor FileDescriptor::open_for_appending(const std::filesystem::path& path) {
  return FileDescriptor(path, O_WRONLY | O_CREAT | O_APPEND);
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::size_t FileDescriptor::read(void* data, std::size_t bytes) const {
  while (true) {
    const ssize_t count = ::read(descriptor_, data, bytes);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR) throw_failure("read", path_, errno);
  }
}

void FileDescriptor::write(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      throw_failure("write", path_, errno);
    }
  }
}

void FileDescriptor::sync() const {
  if (::fsync(descriptor_) != 0) throw_failure("write", path_, errno);
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + std::string(kSuffix)) {}

AtomicFile::~AtomicFile() {
  if (published_) return;
  // A destructor has nobody to tell; the next writer overwrites what stays.
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void AtomicFile::publish() {
  // fsync asks for any descriptor of the file; Linux writes back all its pages, whoever made them
  // dirty.
  FileDescriptor::open_for_reading(temporary_).sync();
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (error) throw_failure("write", path_, error.value());
  published_ = true;
  sync_folder(path_.parent_path());
}

void write_file(const std::filesystem::path& path, std::string_view contents) {
  AtomicFile file(path);
  std::error_code error;
  std::filesystem::remove(file.temporary(), error);  // what a killed process left behind
  FileDescriptor::create(file.temporary()).write(contents);
  file.publish();
}

std::string read_file(const std::filesystem::path& path) {
  const FileDescriptor file = FileDescriptor::open_for_reading(path);
  std::string contents;
  char block[1 << 14];
  while (const std::size_t bytes = file.read(block, sizeof block)) contents.append(block, bytes);
  return contents;
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return;
  const std::filesystem::path parent = folder.parent_path();
  if (parent != folder) make_folder(parent);
  std::filesystem::create_directory(folder, error);
  if (!error) return sync_folder(parent);
  const bool is_taken = error == std::errc::file_exists;
  throw Error(ErrorKind::io, {.what = "cannot make the folder",
                              .why = is_taken ? "there is a file of this name" : error.message(),
                              .hint = "check the path and who may write there",
                              .where = folder.string()});
}

void sync_folder(const std::filesystem::path& folder) {
  FileDescriptor::open_for_reading(folder.empty() ? "." : folder).sync();
}

}  // namespace longscan

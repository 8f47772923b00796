// Files that are either there as a whole or not at all, whatever happens while they are written.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace longscan {

/// An open file of the operating system. Every failure throws io with the path and the system's
/// reason.
class FileDescriptor {
 public:
  /// Throws missing when there is no such file.
  static FileDescriptor open_for_reading(const std::filesystem::path& path);
  /// Throws io when the file exists already.
  static FileDescriptor create(const std::filesystem::path& path);
  /// Makes the file when it is not there; what is written goes to its end.
  static FileDescriptor open_for_appending(const std::filesystem::path& path);

  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  /// Reads up to `bytes` bytes; 0 means the end of the file.
  std::size_t read(void* data, std::size_t bytes) const;
  /// Writes everything.
  void write(std::string_view bytes) const;
  /// Returns when the contents have reached the disk.
  void sync() const;

 private:
  FileDescriptor(const std::filesystem::path& path, int flags);

  std::filesystem::path path_;
  int descriptor_ = -1;
};

/// A file under construction. It is written as `temporary()` by whatever means and takes its own
/// name in `publish`; without that, the destructor removes it. After a crash the name holds what it
/// held before, or all of the new contents; a temporary that a killed process left behind is
/// overwritten by the next writer.
class AtomicFile {
 public:
  /// Ends the name of every temporary.
  static constexpr std::string_view kSuffix = ".partial";

  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& temporary() const { return temporary_; }

  /// Syncs the temporary, which nobody may have open any more, renames it and syncs the folder.
  void publish();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool published_ = false;
};

/// Makes or replaces a small file as `AtomicFile` does.
void write_file(const std::filesystem::path& path, std::string_view contents);

/// The whole contents of a small file. Throws missing when there is no such file, io when it cannot
/// be read.
std::string read_file(const std::filesystem::path& path);

/// Makes a folder and those above it where they are missing. Throws io.
void make_folder(const std::filesystem::path& folder);

/// Returns when names made, replaced or removed in `folder` have reached the disk.
void sync_folder(const std::filesystem::path& folder);

}  // namespace longscan

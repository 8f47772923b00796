// An HDF5 file under construction: it takes its name when it is complete. Internal to this room.
#pragma once

#include <filesystem>
#include <string>

#include "io/atomic_file.h"
#include "io/hdf5.h"

namespace longscan {

class Hdf5Output {
 public:
  /// noun: "the token store", for messages. Throws io where the file cannot be made.
  Hdf5Output(const std::filesystem::path& path, std::string noun);

  const hdf5::File& file() const { return file_; }
  hid_t id() const { return file_.id(); }

  /// Runs `work`, which writes while all that it has opened stays open; a failure of the disk is
  /// told with the file's name.
  template <class Work>
  void write(const Work& work) const {
    try {
      hdf5::write_or_abandon(file_, work);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::io) throw;
      fail("cannot be written", "see whether the disk has room", error);
    }
  }

  /// Of a file that was flushed within `write`, and in which nothing else is open.
  void publish();

 private:
  [[noreturn]] void fail(const char* what, const char* hint, const Error& error) const;
  hdf5::File create() const;

  std::string noun_;
  AtomicFile destination_;
  hdf5::File file_;
};

}  // namespace longscan

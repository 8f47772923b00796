// HDF5 between a file under a temporary name and its own.
#include "io/hdf5_output.h"

#include <utility>

namespace longscan {

Hdf5Output::Hdf5Output(const std::filesystem::path& path, std::string noun)
    : noun_(std::move(noun)), destination_(path), file_(create()) {}

void Hdf5Output::publish() {
  file_.close();
  destination_.publish();
}

void Hdf5Output::fail(const char* what, const char* hint, const Error& error) const {
  throw Error(ErrorKind::io, {.what = fmt::format("{} {}", noun_, what),
                              .why = error.what(),
                              .hint = hint,
                              .where = destination_.path().string()});
}

hdf5::File Hdf5Output::create() const {
  try {
    const std::filesystem::path& path = destination_.temporary();
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    // HDF5 1.10 stumbles at the process's end over a file that it could not create, so the system
    // is asked for the first block before it.
    FileDescriptor::create(path).write(std::string(64 * 1024, '\0'));
    return hdf5::create_file(path.string());
  } catch (const Error& error) {
    fail("cannot be made", "check the path and who may write there", error);
  }
}

}  // namespace longscan

// HDF5 for the sources of this room: owned handles, checked calls, and the few things Longscan does
// with files, groups, datasets and attributes. Internal: no other header of `io` includes it.
//
// Everything here may be called from several threads. Every dataset is chunked with the Fletcher32
// filter and every file has the latest format (checksummed metadata), so a damaged file is noticed.
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace longscan::hdf5 {

/// Held during every call of HDF5: one thread at a time, and HDF5's own printing switched off.
///
/// HDF5 as Debian builds it is not thread-safe, and ranks may be threads of one process. The mutex
/// is therefore the process's (a static inside the constructor), the one exception to "no globals".
/// It is recursive, so that a helper may hold it over several checked calls.
class Guard {
 public:
  Guard();
  ~Guard();
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  H5E_auto2_t print_ = nullptr;
  void* print_data_ = nullptr;
};

/// Throws io: `call` failed, and why by the most specific entry of HDF5's error stack.
[[noreturn]] void fail(const char* call, std::source_location source);

/// Runs `call` under a Guard; returns its result when that is not negative, else fails.
template <class Call>
auto checked(const char* text, const Call& call,
             std::source_location source = std::source_location::current()) {
  const Guard guard;
  const auto result = call();
  if (result < 0) fail(text, source);
  return result;
}

#define HDF5_CHECK(call) ::longscan::hdf5::checked(#call, [&] { return call; })

/// Owns one HDF5 id; move-only. Destruction closes it and drops errors, `close` reports them.
template <herr_t (*close_id)(hid_t)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle() {
    if (id_ < 0) return;
    const Guard guard;
    close_id(id_);
  }

  hid_t id() const { return id_; }

  /// Closes now. Throws io when what was written could not be brought to the file.
  void close() {
    if (id_ < 0) return;
    const hid_t id = std::exchange(id_, H5I_INVALID_HID);
    HDF5_CHECK(close_id(id));
  }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using File = Handle<H5Fclose>;
using Group = Handle<H5Gclose>;
using Dataset = Handle<H5Dclose>;
using Dataspace = Handle<H5Sclose>;
using Datatype = Handle<H5Tclose>;
using Attribute = Handle<H5Aclose>;
using PropertyList = Handle<H5Pclose>;

/// Creates `path` in the latest format, replacing a file of that name. Throws io.
File create_file(const std::string& path);
/// Opens `path` for reading only and without a file lock: many ranks read one file at once, also on
/// file systems that know no locks. Throws io, also when the file is no HDF5 file.
File open_file(const std::string& path);
/// Brings everything written so far to the operating system (not to the disk: fsync does that).
void flush(const File& file);
void flush(const Dataset& dataset);

/// Gives up a file that could not be written, while all its ids are still open: what HDF5 holds
/// back for it goes nowhere, so that closing succeeds. HDF5 1.10 keeps a file whose close failed
/// and crashes at the process's end.
void abandon(const File& file) noexcept;
/// Runs `work`, which writes to `file`, and abandons the file when it throws.
template <class Work>
void write_or_abandon(const File& file, const Work& work) {
  try {
    work();
  } catch (...) {
    abandon(file);
    throw;
  }
}

Group create_group(hid_t parent, const std::string& name);
Group open_group(hid_t parent, const std::string& name);
/// The names of the links of a group or file, sorted.
std::vector<std::string> link_names(hid_t parent);

/// HDF5's type of a C++ number in memory; also used in files, which are therefore little-endian.
template <class T>
hid_t type_of();

/// A dataset of a fixed shape. Chunks hold about 64 KiB. No extent may be negative; an empty shape
/// or an extent of 0 is allowed.
Dataset create_dataset(hid_t parent, const std::string& name, hid_t type,
                       std::span<const std::int64_t> shape);
/// A dataset of one dimension that `append` makes longer; `chunk` counts elements.
Dataset create_growing(hid_t parent, const std::string& name, hid_t type, std::int64_t chunk);
Dataset open_dataset(hid_t parent, const std::string& name);
std::vector<std::int64_t> shape_of(const Dataset& dataset);
/// Whether the elements have HDF5's type `type` (class, size, sign and byte order).
bool has_type(const Dataset& dataset, hid_t type);

/// All elements, row-major, of memory type `type`. Reading throws io when a checksum is wrong.
void write_all(const Dataset& dataset, hid_t type, const void* data);
void read_all(const Dataset& dataset, hid_t type, void* data);
/// Writes `count` elements behind the last one of a growing dataset.
void append(const Dataset& dataset, hid_t type, const void* data, std::int64_t count);
/// Elements [begin, begin + count) of a dataset of one dimension.
void read_range(const Dataset& dataset, hid_t type, std::int64_t begin, std::int64_t count,
                void* data);

/// A vector as a dataset of one dimension.
template <class T>
void write_vector(hid_t parent, const std::string& name, std::span<const T> values) {
  const std::int64_t shape[] = {static_cast<std::int64_t>(values.size())};
  const Guard guard;
  write_all(create_dataset(parent, name, type_of<T>(), shape), type_of<T>(), values.data());
}
template <class T>
std::vector<T> read_vector(hid_t parent, const std::string& name) {
  const Guard guard;
  const Dataset dataset = open_dataset(parent, name);
  std::int64_t size = 1;
  for (const std::int64_t extent : shape_of(dataset)) size *= extent;
  std::vector<T> values(static_cast<std::size_t>(size));
  read_all(dataset, type_of<T>(), values.data());
  return values;
}

/// A text as a dataset of bytes. HDF5's strings of variable length live in a heap that no checksum
/// protects, so no dataset uses them.
void write_text(hid_t parent, const std::string& name, std::string_view text);
std::string read_text(hid_t parent, const std::string& name);
/// Texts without a line feed, each followed by one, as one text.
void write_lines(hid_t parent, const std::string& name, std::span<const std::string> lines);
std::vector<std::string> read_lines(hid_t parent, const std::string& name);

/// Attributes of a file, group or dataset; writing replaces. A string is stored with its length.
void write_attribute(hid_t object, const std::string& name, std::int64_t value);
void write_attribute(hid_t object, const std::string& name, const std::string& value);
bool has_attribute(hid_t object, const std::string& name);
std::int64_t read_integer_attribute(hid_t object, const std::string& name);
std::string read_string_attribute(hid_t object, const std::string& name);

}  // namespace longscan::hdf5

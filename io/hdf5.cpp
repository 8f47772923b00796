// HDF5 in the few forms that Longscan uses.
#include "io/hdf5.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace longscan::hdf5 {
namespace {

constexpr std::int64_t kChunkBytes = 64 * 1024;

/// The operating system's reason within an entry about a failed read or write, or the whole entry.
std::string reason_of(const std::string& entry) {
  constexpr std::string_view kBefore = "error message = '";
  const std::size_t found = entry.find(kBefore);
  if (found == std::string::npos) return entry;
  const std::size_t begin = found + kBefore.size();
  return entry.substr(begin, entry.find('\'', begin) - begin);
}

/// Remembers the first entry that a walk shows: the innermost, which knows the file and the reason.
herr_t remember_first(unsigned index, const H5E_error2_t* entry, void* message) {
  if (index == 0 && entry->desc != nullptr) {
    *static_cast<std::string*>(message) = fmt::format("{} ({})", entry->desc, entry->func_name);
  }
  return 0;
}

PropertyList latest_format() {
  PropertyList list(HDF5_CHECK(H5Pcreate(H5P_FILE_ACCESS)));
  HDF5_CHECK(H5Pset_libver_bounds(list.id(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST));
  // A close that leaves nothing open behind it, so that its failure is the file's.
  HDF5_CHECK(H5Pset_fclose_degree(list.id(), H5F_CLOSE_STRONG));
  return list;
}

PropertyList chunked(std::span<const hsize_t> chunk) {
  PropertyList list(HDF5_CHECK(H5Pcreate(H5P_DATASET_CREATE)));
  HDF5_CHECK(H5Pset_chunk(list.id(), static_cast<int>(chunk.size()), chunk.data()));
  HDF5_CHECK(H5Pset_fletcher32(list.id()));
  return list;
}

/// Whole rows of the last dimensions while they fit into a chunk.
std::vector<hsize_t> chunk_of(std::span<const std::int64_t> shape, std::int64_t element_bytes) {
  std::vector<hsize_t> chunk(shape.size());
  std::int64_t left = std::max<std::int64_t>(1, kChunkBytes / element_bytes);
  for (std::size_t dimension = shape.size(); dimension-- > 0;) {
    const std::int64_t extent = std::clamp<std::int64_t>(shape[dimension], 1, left);
    chunk[dimension] = static_cast<hsize_t>(extent);
    left = std::max<std::int64_t>(1, left / extent);
  }
  return chunk;
}

Datatype string_of(std::size_t length) {
  Datatype type(HDF5_CHECK(H5Tcopy(H5T_C_S1)));
  HDF5_CHECK(H5Tset_size(type.id(), std::max<std::size_t>(1, length)));
  HDF5_CHECK(H5Tset_strpad(type.id(), H5T_STR_NULLPAD));
  HDF5_CHECK(H5Tset_cset(type.id(), H5T_CSET_UTF8));
  return type;
}

void write_attribute_of(hid_t object, const std::string& name, hid_t type, const void* data) {
  const Guard guard;
  if (has_attribute(object, name)) HDF5_CHECK(H5Adelete(object, name.c_str()));
  const Dataspace space(HDF5_CHECK(H5Screate(H5S_SCALAR)));
  const Attribute attribute(
      HDF5_CHECK(H5Acreate2(object, name.c_str(), type, space.id(), H5P_DEFAULT, H5P_DEFAULT)));
  HDF5_CHECK(H5Awrite(attribute.id(), type, data));
}

/// The file space of elements [begin, begin + count) of a dataset of one dimension.
Dataspace range_of(const Dataset& dataset, std::int64_t begin, std::int64_t count) {
  Dataspace space(HDF5_CHECK(H5Dget_space(dataset.id())));
  const hsize_t start = static_cast<hsize_t>(begin);
  const hsize_t extent = static_cast<hsize_t>(count);
  HDF5_CHECK(H5Sselect_hyperslab(space.id(), H5S_SELECT_SET, &start, nullptr, &extent, nullptr));
  return space;
}

Dataspace line_of(std::int64_t count) {
  const hsize_t extent = static_cast<hsize_t>(count);
  return Dataspace(HDF5_CHECK(H5Screate_simple(1, &extent, nullptr)));
}

}  // namespace

Guard::Guard() {
  static std::recursive_mutex mutex;
  // Handles close everything there is; what could not be closed, because the disk was full, would
  // crash HDF5 1.10 at the process's end. Has to come before any other call of HDF5.
  [[maybe_unused]] static const herr_t no_work_at_exit = H5dont_atexit();
  lock_ = std::unique_lock(mutex);
  H5Eget_auto2(H5E_DEFAULT, &print_, &print_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Guard::~Guard() {
  H5Eset_auto2(H5E_DEFAULT, print_, print_data_);
}

void fail(const char* call, std::source_location source) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, remember_first, &reason);
  H5Eclear2(H5E_DEFAULT);
  if (reason.empty()) reason = "HDF5 gives no reason";
  throw Error(ErrorKind::io, {.what = fmt::format("{} failed", call), .why = reason_of(reason)},
              source);
}

File create_file(const std::string& path) {
  const PropertyList access = latest_format();
  return File(HDF5_CHECK(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id())));
}

File open_file(const std::string& path) {
  const PropertyList access(HDF5_CHECK(H5Pcreate(H5P_FILE_ACCESS)));
  HDF5_CHECK(H5Pset_file_locking(access.id(), false, true));
  return File(HDF5_CHECK(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id())));
}

void flush(const File& file) {
  HDF5_CHECK(H5Fflush(file.id(), H5F_SCOPE_LOCAL));
}

void flush(const Dataset& dataset) {
  HDF5_CHECK(H5Dflush(dataset.id()));
}

void abandon(const File& file) noexcept {
  const Guard guard;
  void* descriptor = nullptr;
  if (H5Fget_vfd_handle(file.id(), H5P_DEFAULT, &descriptor) < 0) return;
  const int nowhere = memfd_create("abandoned", MFD_CLOEXEC);
  if (nowhere < 0) return;
  ::dup2(nowhere, *static_cast<int*>(descriptor));
  ::close(nowhere);
}

Group create_group(hid_t parent, const std::string& name) {
  return Group(HDF5_CHECK(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)));
}

Group open_group(hid_t parent, const std::string& name) {
  return Group(HDF5_CHECK(H5Gopen2(parent, name.c_str(), H5P_DEFAULT)));
}

std::vector<std::string> link_names(hid_t parent) {
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* into) -> herr_t {
    static_cast<std::vector<std::string>*>(into)->emplace_back(name);
    return 0;
  };
  HDF5_CHECK(H5Literate(parent, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect, &names));
  std::sort(names.begin(), names.end());
  return names;
}

// The names of the types are macros that start the library up, hence the guards.
template <>
hid_t type_of<std::uint8_t>() {
  const Guard guard;
  return H5T_NATIVE_UINT8;
}
template <>
hid_t type_of<std::uint16_t>() {
  const Guard guard;
  return H5T_NATIVE_UINT16;
}
template <>
hid_t type_of<std::int32_t>() {
  const Guard guard;
  return H5T_NATIVE_INT32;
}
template <>
hid_t type_of<std::int64_t>() {
  const Guard guard;
  return H5T_NATIVE_INT64;
}
template <>
hid_t type_of<float>() {
  const Guard guard;
  return H5T_NATIVE_FLOAT;
}
template <>
hid_t type_of<double>() {
  const Guard guard;
  return H5T_NATIVE_DOUBLE;
}

Dataset create_dataset(hid_t parent, const std::string& name, hid_t type,
                       std::span<const std::int64_t> shape) {
  const Guard guard;
  // HDF5 cannot chunk a scalar: it becomes one element.
  const std::vector<std::int64_t> extents =
      shape.empty() ? std::vector<std::int64_t>{1} : std::vector(shape.begin(), shape.end());
  const std::vector<hsize_t> dimensions(extents.begin(), extents.end());
  const auto bytes = static_cast<std::int64_t>(H5Tget_size(type));
  const PropertyList creation = chunked(chunk_of(extents, bytes));
  const Dataspace space(HDF5_CHECK(
      H5Screate_simple(static_cast<int>(dimensions.size()), dimensions.data(), nullptr)));
  return Dataset(HDF5_CHECK(
      H5Dcreate2(parent, name.c_str(), type, space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT)));
}

Dataset create_growing(hid_t parent, const std::string& name, hid_t type, std::int64_t chunk) {
  const hsize_t extent = 0;
  const hsize_t most = H5S_UNLIMITED;
  const hsize_t chunk_extent = static_cast<hsize_t>(chunk);
  const PropertyList creation = chunked(std::span(&chunk_extent, 1));
  const Dataspace space(HDF5_CHECK(H5Screate_simple(1, &extent, &most)));
  return Dataset(HDF5_CHECK(
      H5Dcreate2(parent, name.c_str(), type, space.id(), H5P_DEFAULT, creation.id(), H5P_DEFAULT)));
}

Dataset open_dataset(hid_t parent, const std::string& name) {
  return Dataset(HDF5_CHECK(H5Dopen2(parent, name.c_str(), H5P_DEFAULT)));
}

std::vector<std::int64_t> shape_of(const Dataset& dataset) {
  const Dataspace space(HDF5_CHECK(H5Dget_space(dataset.id())));
  const int rank = HDF5_CHECK(H5Sget_simple_extent_ndims(space.id()));
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  HDF5_CHECK(H5Sget_simple_extent_dims(space.id(), extents.data(), nullptr));
  return {extents.begin(), extents.end()};
}

bool has_type(const Dataset& dataset, hid_t type) {
  const Datatype stored(HDF5_CHECK(H5Dget_type(dataset.id())));
  return HDF5_CHECK(H5Tequal(stored.id(), type)) > 0;
}

void write_all(const Dataset& dataset, hid_t type, const void* data) {
  HDF5_CHECK(H5Dwrite(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
}

void read_all(const Dataset& dataset, hid_t type, void* data) {
  HDF5_CHECK(H5Dread(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data));
}

void append(const Dataset& dataset, hid_t type, const void* data, std::int64_t count) {
  if (count == 0) return;
  const Guard guard;
  const std::int64_t begin = shape_of(dataset).at(0);
  const hsize_t extent = static_cast<hsize_t>(begin) + static_cast<hsize_t>(count);
  HDF5_CHECK(H5Dset_extent(dataset.id(), &extent));
  const Dataspace memory = line_of(count);
  const Dataspace range = range_of(dataset, begin, count);
  HDF5_CHECK(H5Dwrite(dataset.id(), type, memory.id(), range.id(), H5P_DEFAULT, data));
}

void read_range(const Dataset& dataset, hid_t type, std::int64_t begin, std::int64_t count,
                void* data) {
  if (count == 0) return;
  const Guard guard;
  const Dataspace memory = line_of(count);
  const Dataspace range = range_of(dataset, begin, count);
  HDF5_CHECK(H5Dread(dataset.id(), type, memory.id(), range.id(), H5P_DEFAULT, data));
}

void write_text(hid_t parent, const std::string& name, std::string_view text) {
  write_vector(parent, name,
               std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

std::string read_text(hid_t parent, const std::string& name) {
  const std::vector<std::uint8_t> bytes = read_vector<std::uint8_t>(parent, name);
  return {bytes.begin(), bytes.end()};
}

void write_lines(hid_t parent, const std::string& name, std::span<const std::string> lines) {
  std::string text;
  for (const std::string& line : lines) text.append(line).push_back('\n');
  write_text(parent, name, text);
}

std::vector<std::string> read_lines(hid_t parent, const std::string& name) {
  const std::string text = read_text(parent, name);
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

void write_attribute(hid_t object, const std::string& name, std::int64_t value) {
  write_attribute_of(object, name, type_of<std::int64_t>(), &value);
}

void write_attribute(hid_t object, const std::string& name, const std::string& value) {
  write_attribute_of(object, name, string_of(value.size()).id(), value.c_str());
}

bool has_attribute(hid_t object, const std::string& name) {
  return HDF5_CHECK(H5Aexists(object, name.c_str())) > 0;
}

std::int64_t read_integer_attribute(hid_t object, const std::string& name) {
  const Attribute attribute(HDF5_CHECK(H5Aopen(object, name.c_str(), H5P_DEFAULT)));
  std::int64_t value = 0;
  HDF5_CHECK(H5Aread(attribute.id(), H5T_NATIVE_INT64, &value));
  return value;
}

std::string read_string_attribute(hid_t object, const std::string& name) {
  const Guard guard;
  const Attribute attribute(HDF5_CHECK(H5Aopen(object, name.c_str(), H5P_DEFAULT)));
  const Datatype stored(HDF5_CHECK(H5Aget_type(attribute.id())));
  std::string value(H5Tget_size(stored.id()), '\0');
  HDF5_CHECK(H5Aread(attribute.id(), string_of(value.size()).id(), value.data()));
  value.resize(std::min(value.find('\0'), value.size()));
  return value;
}

}  // namespace longscan::hdf5

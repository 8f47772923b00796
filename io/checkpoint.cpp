// One group a kind of tensor; each reading opens the file anew.
#include "io/checkpoint.h"

#include <map>

#include "io/atomic_file.h"
#include "io/checkpoint_folder.h"
#include "io/hdf5.h"
#include "io/manifest.h"
#include "kernels/error.h"

namespace longscan {

namespace {

constexpr std::int64_t kFormatVersion = 1;
constexpr const char* kModel = "model";
constexpr const char* kOptimizer = "optimizer";
constexpr const char* kFirstMoment = "first_moment";
constexpr const char* kSecondMoment = "second_moment";

std::string describe(const StoredTensor& stored) {
  return fmt::format("{}[{}]", name_of(stored.dtype), fmt::join(stored.shape, ", "));
}

std::vector<std::int64_t> shape_of(const Tensor& tensor) {
  return {tensor.shape, tensor.shape + tensor.rank};
}

hid_t hdf5_type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return hdf5::type_of<float>();
    case DType::f64:
      return hdf5::type_of<double>();
    default:
      break;
  }
  throw Error(ErrorKind::internal, {.what = fmt::format("a checkpoint holds no {}", name_of(dtype)),
                                    .why = "parameters and moments are f32 or f64"});
}

/// Runs `work` on the file; what HDF5 says becomes an error of `kind` that names the file.
template <class Work>
auto on_file(ErrorKind kind, const char* what, const std::filesystem::path& path,
             const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::io) throw;
    throw Error(kind, {.what = what, .why = error.what(), .where = path.string()});
  }
}

// ---- writing

void check_tensors(std::span<const NamedTensor> tensors) {
  for (const NamedTensor& one : tensors) {
    require(!one.name.empty() && one.name != "." && one.name.find('/') == std::string::npos,
            "checkpoint", "parameters have names without slashes");
    require_dense(one.name.c_str(), one.tensor);
    require(one.tensor.size() > 0, one.name.c_str(), "a parameter has elements");
    static_cast<void>(hdf5_type_of(one.tensor.dtype));
  }
}

std::int64_t bytes_of(std::span<const NamedTensor> tensors) {
  std::int64_t bytes = 0;
  for (const NamedTensor& one : tensors) bytes += one.tensor.bytes();
  return bytes;
}

/// Asks before writing: HDF5 finds out about a full disk only when it closes the file.
void require_space(const std::filesystem::path& folder, const CheckpointContents& contents) {
  const std::int64_t needed =
      bytes_of(contents.model) + bytes_of(contents.first_moment) + bytes_of(contents.second_moment);
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(folder, error);
  if (error || space.available >= static_cast<std::uintmax_t>(needed)) return;
  throw Error(
      ErrorKind::io,
      {.what = "cannot write the checkpoint",
       .why = fmt::format("it takes {} bytes and the disk has {} left", needed, space.available),
       .hint = "free some space, keep fewer checkpoints or choose another folder",
       .where = folder.string()});
}

void write_tensors(const hdf5::File& file, hid_t parent, const char* group_name,
                   std::span<const NamedTensor> tensors) {
  const hdf5::Group group = hdf5::create_group(parent, group_name);
  for (const NamedTensor& one : tensors) {
    const hid_t type = hdf5_type_of(one.tensor.dtype);
    const hdf5::Dataset dataset =
        hdf5::create_dataset(group.id(), one.name, type, shape_of(one.tensor));
    hdf5::write_or_abandon(file, [&] {
      hdf5::write_all(dataset, type, one.tensor.data);
      hdf5::flush(dataset);
    });
  }
}

void write_header(hid_t file, const CheckpointHeader& header) {
  hdf5::write_attribute(file, "format_version", kFormatVersion);
  hdf5::write_attribute(file, "step", header.step);
  hdf5::write_attribute(file, "tokens_seen", header.tokens_seen);
  hdf5::write_attribute(file, "vocabulary", header.vocabulary);
  hdf5::write_attribute(file, "data_hash", header.data_hash);
  hdf5::write_attribute(file, "configuration", header.configuration);
  const hdf5::Group loader = hdf5::create_group(file, "loader");
  hdf5::write_attribute(loader.id(), "epoch", header.loader_epoch);
  hdf5::write_attribute(loader.id(), "window", header.loader_window);
  // Attributes are signed: a seed of 2^63 and more is stored as its two's complement.
  const hdf5::Group random = hdf5::create_group(file, "random");
  hdf5::write_attribute(random.id(), "seed", static_cast<std::int64_t>(header.seed));
}

void write_hdf5(const std::filesystem::path& path, const CheckpointContents& contents) {
  const hdf5::Guard guard;
  hdf5::File file = hdf5::create_file(path.string());
  hdf5::write_or_abandon(file, [&] {
    write_header(file.id(), contents.header);
    write_tensors(file, file.id(), kModel, contents.model);
    const hdf5::Group optimizer = hdf5::create_group(file.id(), kOptimizer);
    write_tensors(file, optimizer.id(), kFirstMoment, contents.first_moment);
    write_tensors(file, optimizer.id(), kSecondMoment, contents.second_moment);
    hdf5::flush(file);
  });
  file.close();
}

// ---- reading

hdf5::File open_checkpoint(const std::filesystem::path& path) {
  hdf5::File file = hdf5::open_file(path.string());
  const std::int64_t version = hdf5::read_integer_attribute(file.id(), "format_version");
  if (version == kFormatVersion) return file;
  throw Error(ErrorKind::data,
              {.what = fmt::format("the checkpoint has format version {}", version),
               .why = fmt::format("this program reads version {}", kFormatVersion),
               .hint = "use the version of the program that wrote it",
               .where = path.string()});
}

CheckpointHeader read_header(hid_t file) {
  const hdf5::Group loader = hdf5::open_group(file, "loader");
  const hdf5::Group random = hdf5::open_group(file, "random");
  return {.step = hdf5::read_integer_attribute(file, "step"),
          .tokens_seen = hdf5::read_integer_attribute(file, "tokens_seen"),
          .loader_epoch = hdf5::read_integer_attribute(loader.id(), "epoch"),
          .loader_window = hdf5::read_integer_attribute(loader.id(), "window"),
          .seed = static_cast<std::uint64_t>(hdf5::read_integer_attribute(random.id(), "seed")),
          .vocabulary = hdf5::read_string_attribute(file, "vocabulary"),
          .data_hash = hdf5::read_string_attribute(file, "data_hash"),
          .configuration = hdf5::read_string_attribute(file, "configuration")};
}

DType dtype_of(const hdf5::Dataset& dataset, const std::string& name) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    if (hdf5::has_type(dataset, hdf5_type_of(dtype))) return dtype;
  }
  throw Error(ErrorKind::data, {.what = fmt::format("'{}' is neither f32 nor f64", name),
                                .why = "a checkpoint holds nothing else"});
}

std::vector<StoredTensor> list_tensors(hid_t group) {
  std::vector<StoredTensor> tensors;
  for (const std::string& name : hdf5::link_names(group)) {
    const hdf5::Dataset dataset = hdf5::open_dataset(group, name);
    tensors.push_back(
        {.name = name, .dtype = dtype_of(dataset, name), .shape = hdf5::shape_of(dataset)});
  }
  return tensors;
}

/// Whether a group may hold more than what is read of it.
enum class Others { forbidden, left_alone };

/// Throws data unless the group holds the targets, in their shapes and types.
void check_targets(hid_t group, const char* group_name, std::span<const NamedTensor> targets,
                   const std::filesystem::path& path, Others others = Others::forbidden) {
  const auto refuse = [&](const std::string& what, const std::string& why) {
    return Error(ErrorKind::data, {.what = what,
                                   .why = why,
                                   .hint = "use the configuration that is stored in the checkpoint",
                                   .where = path.string()});
  };
  std::map<std::string, StoredTensor> stored;
  for (const StoredTensor& one : list_tensors(group)) stored[one.name] = one;
  for (const NamedTensor& target : targets) {
    const auto found = stored.find(target.name);
    const std::string expected = longscan::describe(target.tensor);
    if (found == stored.end()) {
      throw refuse(fmt::format("{}/{} is not in the checkpoint", group_name, target.name),
                   fmt::format("the model expects {}", expected));
    }
    if (found->second.dtype != target.tensor.dtype ||
        found->second.shape != shape_of(target.tensor)) {
      throw refuse(fmt::format("{}/{} is {} in the checkpoint", group_name, target.name,
                               describe(found->second)),
                   fmt::format("the model expects {}", expected));
    }
    stored.erase(found);
  }
  if (stored.empty() || others == Others::left_alone) return;
  const StoredTensor& extra = stored.begin()->second;
  throw refuse(fmt::format("{}/{} of the checkpoint, {}, has no place", group_name, extra.name,
                           describe(extra)),
               "the model has no parameter of this name");
}

void read_tensors(hid_t group, std::span<const NamedTensor> targets) {
  for (const NamedTensor& target : targets) {
    const hdf5::Dataset dataset = hdf5::open_dataset(group, target.name);
    hdf5::read_all(dataset, hdf5_type_of(target.tensor.dtype), target.tensor.data);
  }
}

constexpr const char* kDamaged = "the checkpoint is damaged";

void verify(const std::filesystem::path& path, Verified verified) {
  if (verified == Verified::now) verify_checkpoint(path);
}

}  // namespace

std::filesystem::path write_checkpoint(const std::filesystem::path& folder,
                                       const CheckpointContents& contents) {
  check_tensors(contents.model);
  check_tensors(contents.first_moment);
  check_tensors(contents.second_moment);
  make_folder(folder);
  remove_leftovers(folder);
  require_space(folder, contents);
  AtomicFile file(folder / checkpoint_name(contents.header.step));
  // A first block by hand: HDF5 does not recover when it cannot even begin a file.
  FileDescriptor::create(file.temporary()).write(std::string(4096, '\0'));
  on_file(ErrorKind::io, "cannot write the checkpoint", file.path(),
          [&] { write_hdf5(file.temporary(), contents); });
  publish_with_manifest(file);
  set_latest(folder, file.path());
  return file.path();
}

CheckpointHeader read_checkpoint_header(const std::filesystem::path& path) {
  verify_checkpoint(path);
  return on_file(ErrorKind::data, kDamaged, path, [&] {
    const hdf5::Guard guard;
    const hdf5::File file = open_checkpoint(path);
    return read_header(file.id());
  });
}

std::vector<StoredTensor> list_parameters(const std::filesystem::path& path, Verified verified) {
  verify(path, verified);
  return on_file(ErrorKind::data, kDamaged, path, [&] {
    const hdf5::Guard guard;
    const hdf5::File file = open_checkpoint(path);
    return list_tensors(hdf5::open_group(file.id(), kModel).id());
  });
}

void read_checkpoint(const std::filesystem::path& path, std::span<const NamedTensor> model,
                     std::span<const NamedTensor> first_moment,
                     std::span<const NamedTensor> second_moment, Verified verified) {
  check_tensors(model);
  check_tensors(first_moment);
  check_tensors(second_moment);
  verify(path, verified);
  on_file(ErrorKind::data, kDamaged, path, [&] {
    const hdf5::Guard guard;
    const hdf5::File file = open_checkpoint(path);
    const hdf5::Group optimizer = hdf5::open_group(file.id(), kOptimizer);
    const hdf5::Group parameters = hdf5::open_group(file.id(), kModel);
    const hdf5::Group first = hdf5::open_group(optimizer.id(), kFirstMoment);
    const hdf5::Group second = hdf5::open_group(optimizer.id(), kSecondMoment);
    check_targets(parameters.id(), "model", model, path);
    if (!first_moment.empty()) check_targets(first.id(), kFirstMoment, first_moment, path);
    if (!second_moment.empty()) check_targets(second.id(), kSecondMoment, second_moment, path);
    read_tensors(parameters.id(), model);
    read_tensors(first.id(), first_moment);
    read_tensors(second.id(), second_moment);
  });
}

void read_parameters(const std::filesystem::path& path, std::span<const NamedTensor> some,
                     Verified verified) {
  check_tensors(some);
  verify(path, verified);
  on_file(ErrorKind::data, kDamaged, path, [&] {
    const hdf5::Guard guard;
    const hdf5::File file = open_checkpoint(path);
    const hdf5::Group parameters = hdf5::open_group(file.id(), kModel);
    check_targets(parameters.id(), "model", some, path, Others::left_alone);
    read_tensors(parameters.id(), some);
  });
}

void verify_checkpoint(const std::filesystem::path& path) {
  verify_against_manifest(path);
}

}  // namespace longscan

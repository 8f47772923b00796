// A checkpoint is told by its name; the file `latest` says which of them counts.
#include "io/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include "io/atomic_file.h"
#include "io/manifest.h"
#include "kernels/error.h"

namespace longscan {

namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kSuffix = ".h5";
constexpr const char* kLatest = "latest";

std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(std::min(kSuffix.size(), name.size()));
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool complete = error == std::errc{} && end == name.data() + name.size() && step >= 0;
  return complete ? std::optional(step) : std::nullopt;
}

std::vector<std::filesystem::path> paths_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  if (error == std::errc::no_such_file_or_directory) return paths;
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    paths.push_back(entries->path());
  }
  if (!error) return paths;
  throw Error(ErrorKind::io,
              {.what = "cannot list the folder", .why = error.message(), .where = folder.string()});
}

void remove_file(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::remove(path, error);
  if (!error) return;
  throw Error(ErrorKind::io, {.what = "cannot remove the file",
                              .why = error.message(),
                              .hint = "check who may write there",
                              .where = path.string()});
}

/// The step that FOLDER/latest names. Throws missing or data.
std::int64_t latest_step(const std::filesystem::path& folder) {
  std::string name = read_file(folder / kLatest);
  if (name.ends_with('\n')) name.pop_back();
  if (const std::optional<std::int64_t> step = step_of(name)) return *step;
  throw Error(ErrorKind::data, {.what = "the file names no checkpoint",
                                .why = "it should hold a name like " + checkpoint_name(100),
                                .where = (folder / kLatest).string()});
}

/// In the order in which to try them: `latest` and those before it, the nearest first, then those
/// behind it.
std::vector<CheckpointFile> by_nearness(std::vector<CheckpointFile> files, std::int64_t latest) {
  std::sort(files.begin(), files.end(), [&](const CheckpointFile& a, const CheckpointFile& b) {
    const bool a_behind = a.step > latest;
    const bool b_behind = b.step > latest;
    if (a_behind != b_behind) return b_behind;
    return a_behind ? a.step < b.step : a.step > b.step;
  });
  return files;
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("{}{:08}{}", kPrefix, step, kSuffix);
}

std::vector<CheckpointFile> list_checkpoints(const std::filesystem::path& folder) {
  std::vector<CheckpointFile> files;
  for (const std::filesystem::path& path : paths_in(folder)) {
    const std::optional<std::int64_t> step = step_of(path.filename().string());
    if (step) files.push_back({.step = *step, .path = path});
  }
  std::sort(files.begin(), files.end(),
            [](const CheckpointFile& a, const CheckpointFile& b) { return a.step < b.step; });
  return files;
}

LatestCheckpoint find_latest(const std::filesystem::path& folder) {
  LatestCheckpoint result;
  std::vector<CheckpointFile> files = list_checkpoints(folder);
  const bool names_one = std::filesystem::exists(folder / kLatest);
  if (files.empty() && !names_one) return result;

  std::int64_t latest = files.empty() ? 0 : files.back().step;
  try {
    latest = latest_step(folder);
    const auto is_latest = [&](const CheckpointFile& file) { return file.step == latest; };
    if (std::none_of(files.begin(), files.end(), is_latest)) {
      files.push_back({.step = latest, .path = folder / checkpoint_name(latest)});
    }
  } catch (const Error& error) {
    result.passed_over.emplace_back(error.what());
  }
  for (const CheckpointFile& file : by_nearness(files, latest)) {
    try {
      result.header = read_checkpoint_header(file.path);
      result.path = file.path;
      return result;
    } catch (const Error& error) {
      result.passed_over.emplace_back(error.what());
    }
  }
  throw Error(ErrorKind::data, {.what = "no checkpoint of the folder can be used",
                                .why = fmt::format("{}", fmt::join(result.passed_over, "; ")),
                                .hint = "choose another folder to begin anew",
                                .where = folder.string()});
}

void set_latest(const std::filesystem::path& folder, const std::filesystem::path& path) {
  write_file(folder / kLatest, path.filename().string() + "\n");
}

std::vector<CheckpointFile> keep_last(const std::filesystem::path& folder, std::int64_t count) {
  std::vector<CheckpointFile> removed;
  if (count <= 0 || !std::filesystem::exists(folder / kLatest)) return removed;
  const std::int64_t latest = latest_step(folder);
  std::int64_t kept = 0;
  for (const CheckpointFile& file : by_nearness(list_checkpoints(folder), latest)) {
    if (file.step == latest) {
      ++kept;
    } else if (file.step < latest && kept < count) {
      kept += seems_complete(file.path) ? 1 : 0;  // an incomplete one stays but does not count
    } else if (kept > 0) {
      // The file first: a manifest alone is a leftover, a file alone would look damaged.
      remove_file(file.path);
      remove_file(manifest_of(file.path));
      removed.push_back(file);
    }
  }
  sync_folder(folder);
  return removed;
}

void remove_leftovers(const std::filesystem::path& folder) {
  for (const std::filesystem::path& path : paths_in(folder)) {
    const std::string name = path.filename().string();
    const bool is_ours = name.starts_with(kPrefix) || name.starts_with(kLatest);
    const bool is_temporary = is_ours && name.ends_with(AtomicFile::kSuffix);
    const bool is_widowed = path.extension() == ".manifest" && step_of(path.stem().string()) &&
                            !std::filesystem::exists(folder / path.stem());
    if (is_temporary || is_widowed) remove_file(path);
  }
}

}  // namespace longscan

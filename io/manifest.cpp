// Text in, text out; while a file is replaced, its manifest has a line for either content.
#include "io/manifest.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "io/sha256.h"
#include "kernels/error.h"

namespace longscan {

namespace {

constexpr std::size_t kDigits = 64;

Error damaged_manifest(const std::filesystem::path& manifest) {
  return Error(ErrorKind::data, {.what = "the manifest is damaged",
                                 .why = "a line is not a SHA-256 and a size",
                                 .hint = "use another checkpoint",
                                 .where = manifest.string()});
}

Fingerprint parse_line(std::string_view line, const std::filesystem::path& manifest) {
  const bool has_digits =
      line.size() > kDigits + 1 && line[kDigits] == ' ' &&
      line.substr(0, kDigits).find_first_not_of("0123456789abcdef") == std::string_view::npos;
  if (!has_digits) throw damaged_manifest(manifest);
  Fingerprint fingerprint{.sha256 = std::string(line.substr(0, kDigits)), .bytes = 0};
  line.remove_prefix(kDigits + 1);
  const auto [end, error] =
      std::from_chars(line.data(), line.data() + line.size(), fingerprint.bytes);
  if (error != std::errc{} || end != line.data() + line.size()) throw damaged_manifest(manifest);
  return fingerprint;
}

std::int64_t size_of_file(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  if (!error) return static_cast<std::int64_t>(bytes);
  throw Error(ErrorKind::missing, {.what = "there is no such file",
                                   .why = error.message(),
                                   .hint = "check the path",
                                   .where = file.string()});
}

}  // namespace

std::filesystem::path manifest_of(const std::filesystem::path& file) {
  return file.string() + ".manifest";
}

Fingerprint fingerprint_of(const std::filesystem::path& file) {
  return {.sha256 = sha256_of_file(file), .bytes = size_of_file(file)};
}

void write_manifest(const std::filesystem::path& file, std::span<const Fingerprint> contents) {
  std::string text;
  for (const Fingerprint& one : contents) text += fmt::format("{} {}\n", one.sha256, one.bytes);
  write_file(manifest_of(file), text);
}

std::vector<Fingerprint> read_manifest(const std::filesystem::path& file) {
  const std::filesystem::path manifest = manifest_of(file);
  const std::string text = read_file(manifest);
  std::vector<Fingerprint> contents;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) throw damaged_manifest(manifest);
    contents.push_back(parse_line(std::string_view(text).substr(begin, end - begin), manifest));
    begin = end + 1;
  }
  if (contents.empty()) throw damaged_manifest(manifest);
  return contents;
}

void publish_with_manifest(AtomicFile& file) {
  const Fingerprint fresh = fingerprint_of(file.temporary());
  std::vector<Fingerprint> right = {fresh};
  if (seems_complete(file.path())) {
    for (const Fingerprint& old : read_manifest(file.path())) right.push_back(old);
  }
  write_manifest(file.path(), right);
  file.publish();
  if (right.size() > 1) write_manifest(file.path(), std::span(&fresh, 1));
}

void verify_against_manifest(const std::filesystem::path& file) {
  const std::int64_t bytes = size_of_file(file);
  if (!std::filesystem::exists(manifest_of(file))) {
    throw Error(ErrorKind::missing, {.what = "the manifest is missing",
                                     .why = "without it nobody can tell whether the file is whole",
                                     .hint = "use another checkpoint",
                                     .where = manifest_of(file).string()});
  }
  const std::vector<Fingerprint> right = read_manifest(file);
  const auto refuse = [&](const std::string& why) {
    return Error(ErrorKind::data, {.what = "the file is damaged",
                                   .why = why,
                                   .hint = "use another checkpoint",
                                   .where = file.string()});
  };
  const auto has_size = [&](const Fingerprint& one) { return one.bytes == bytes; };
  if (std::none_of(right.begin(), right.end(), has_size)) {
    throw refuse(
        fmt::format("it has {} bytes where its manifest says {}", bytes, right.front().bytes));
  }
  if (std::find(right.begin(), right.end(), fingerprint_of(file)) == right.end()) {
    throw refuse("its SHA-256 is not the one in its manifest");
  }
}

bool seems_complete(const std::filesystem::path& file) {
  try {
    const std::vector<Fingerprint> right = read_manifest(file);
    const std::int64_t bytes = size_of_file(file);
    return std::any_of(right.begin(), right.end(),
                       [&](const Fingerprint& one) { return one.bytes == bytes; });
  } catch (const Error&) {
    return false;
  }
}

}  // namespace longscan

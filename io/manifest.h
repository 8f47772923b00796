// A manifest stands beside a file and says what the file must contain: `NAME.manifest` for `NAME`.
//
// It has a line for each content that is right under the name, its SHA-256 and its size in bytes,
// with a blank between. That is one line, except while a file is replaced: then the old and the new
// content are both right, so that there is no moment at which a crash would leave a file without
// its line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"

namespace longscan {

struct Fingerprint {
  std::string sha256;  ///< 64 hexadecimal digits
  std::int64_t bytes = 0;

  bool operator==(const Fingerprint&) const = default;
};

std::filesystem::path manifest_of(const std::filesystem::path& file);

/// Reads the whole file. Throws missing or io.
Fingerprint fingerprint_of(const std::filesystem::path& file);

/// Makes or replaces the manifest of `file`, whole or not at all.
void write_manifest(const std::filesystem::path& file, std::span<const Fingerprint> contents);

/// Throws missing when there is no manifest, data when it is damaged.
std::vector<Fingerprint> read_manifest(const std::filesystem::path& file);

/// Publishes `file` together with its manifest; a kill at any moment leaves the name with contents
/// that its manifest has a line for, or without contents.
void publish_with_manifest(AtomicFile& file);

/// Throws missing when the file or its manifest is not there, data when the file is not what the
/// manifest says.
void verify_against_manifest(const std::filesystem::path& file);

/// Whether file and manifest are there and the size is right; reads no contents and throws nothing.
bool seems_complete(const std::filesystem::path& file);

}  // namespace longscan

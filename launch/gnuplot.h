// Pictures are drawn by gnuplot, a program of its own.
#pragma once

#include <filesystem>
#include <string>

namespace longscan {

/// Gives gnuplot `script`, which may hold binary data for its plots from '-', and writes what comes
/// of it to `path` as AtomicFile does. Throws missing where there is no gnuplot, io where it fails.
void run_gnuplot(const std::string& script, const std::filesystem::path& path);

}  // namespace longscan

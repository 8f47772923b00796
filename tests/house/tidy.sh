#!/usr/bin/env bash
# clang-tidy over the sources of the library and the program, or over FILES. Not one of the tests: it takes long.
#   tidy.sh BUILD [FILES...]     BUILD has compile_commands.json and is built, for the generated headers
set -euo pipefail
build=$(realpath "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ $# -gt 0 ] || mapfile -t files < <(find kernels dist io model launch -name '*.cpp' -not -path 'launch/example/*')
[ $# -eq 0 ] || files=("$@")

# What GCC has and the parser of Clang 14 lacks, for reading only.
stand_ins=$(mktemp --suffix=.h)
trap 'rm -f "$stand_ins"' EXIT
cat > "$stand_ins" <<'END'
#pragma once
#include <source_location>
#if !__has_builtin(__builtin_source_location)
namespace std {
struct source_location {
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           const char* function = __builtin_FUNCTION(),
                                           unsigned line = __builtin_LINE()) noexcept {
    return {file, function, line};
  }
  constexpr const char* file_name() const noexcept { return file; }
  constexpr const char* function_name() const noexcept { return function; }
  constexpr unsigned line() const noexcept { return number; }
  const char* file = "";
  const char* function = "";
  unsigned number = 0;
};
}  // namespace std
#endif
#if !__has_builtin(__builtin_shuffle)
#define __builtin_shuffle(left, right, order) ((void)(right), (void)(order), (left))
#endif
END

# Clang 14 does not let `omp simd` loops see structured bindings: it reads them as plain loops.
flags=(-include "$stand_ins" -fno-openmp-simd -Wno-unknown-pragmas -Wno-unknown-warning-option)
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "${TIDY_JOBS:-1}" clang-tidy -p "$build" --quiet "${flags[@]/#/--extra-arg=}"

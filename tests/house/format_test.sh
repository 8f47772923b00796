#!/usr/bin/env bash
# Sources are as clang-format writes them. Skipped (77) where it is not installed.
#   format_test.sh SOURCE
set -uo pipefail
cd "$1"
command -v clang-format > /dev/null || { echo "clang-format is not installed"; exit 77; }
find kernels dist io model launch tests benchmarks -name '*.h' -print0 -o -name '*.cpp' -print0 |
  xargs -0 clang-format --dry-run -Werror

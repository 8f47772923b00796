#!/usr/bin/env bash
# Every header compiles alone; those of CUDA where the flags say that the build has it.
#   headers_alone_test.sh SOURCE COMPILER FLAGS...
set -uo pipefail
cd "$1"
shift

compile() {
  local header=$1
  shift
  "$@" -std=c++20 -fsyntax-only -I. -x c++ "$header" -Wno-pragma-once-outside-header 2>&1 ||
    { echo "$header does not compile alone"; return 1; }
}
export -f compile
without=()
[[ " $* " == *" -DLONGSCAN_CUDA "* ]] || without=(-not -path '*/cuda/*' -not -name '*nccl*')
find kernels dist io model launch tests/support -name '*.h' "${without[@]}" -print0 |
  xargs -0 -P 2 -I '{}' bash -c 'compile "$@"' compile '{}' "$@"

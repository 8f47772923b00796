#!/usr/bin/env bash
# Rooms include only the rooms below them, and each package is touched by one room.
#   include_directions_test.sh SOURCE
set -uo pipefail
cd "$1"
failures=0

# includes ROOM: FILE:LINE:what is included
includes() {
  grep -rnoE --include=*.h --include=*.cpp --include=*.cu '^ *# *include *[<"][^>"]+[>"]' "$1" |
    sed -E 's/ *# *include *//'
}

# only ROOM ALLOWED...: its includes of rooms are of these
only() {
  local room=$1
  shift
  local allowed
  allowed=$(IFS='|' && echo "$*")
  local wrong
  wrong=$(includes "$room" | grep -E ':"' | grep -vE ":\"($allowed)/")
  if [ -n "$wrong" ]; then
    echo "$room may include $* and nothing else:"
    echo "$wrong"
    failures=$((failures + 1))
  fi
}

# belongs PACKAGE_PATTERN ROOM: no other room includes it
belongs() {
  local pattern=$1 owner=$2 room wrong
  for room in kernels dist io model launch; do
    [ "$room" = "$owner" ] && continue
    wrong=$(includes "$room" | grep -E ":[<\"]$pattern")
    if [ -n "$wrong" ]; then
      echo "only $owner touches $pattern:"
      echo "$wrong"
      failures=$((failures + 1))
    fi
  done
}

only kernels kernels
only dist kernels dist
only io kernels io
only model kernels dist model
only launch kernels dist io model launch

belongs 'cblas' kernels
belongs 'cuda|cublas' kernels
belongs 'mpi\.h|nccl' dist
belongs '(hdf5|H5[A-Z])' io
belongs 'google/protobuf' io
belongs '(zlib|openssl)' io
belongs 'CLI/' launch

# The patterns see something: a rule about nothing would hold for ever.
for seen in kernels:cblas kernels:cuda dist:mpi dist:nccl io:hdf5 io:google/protobuf io:zlib io:openssl launch:CLI/; do
  includes "${seen%%:*}" | grep -E ":[<\"]${seen#*:}" > /dev/null ||
    {
      echo "no include of ${seen#*:} in ${seen%%:*}: is the test blind?"
      failures=$((failures + 1))
    }
done
exit $((failures > 0))

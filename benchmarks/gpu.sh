#!/usr/bin/env bash
# Measures one GPU, from the source tree or from a bundle: ceilings, attention, what streams through
# memory, whole training steps; with --peers also other libraries at the same shapes. Writes tables
# for benchmarks/results/ and prints them last; fails where a result was wrong.
set -uo pipefail

usage() {
  cat << END
usage: benchmarks/gpu.sh [options]

options
  --only "A B"       of: $benchmarks
  --options "..."    for all programs, as in "--rounds=3 --longest=65536"; "--small=1" for a try
  --out FOLDER       for logs and for gpu.md, the tables (default gpu-check)
  --programs FOLDER  where they are (default bin of the bundle, or build/release/bin)
  --peers            also benchmarks/peers/*.py, with the python3 that is active
END
}

benchmarks="ceilings attention streams step"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
only=$benchmarks
options=""
out=gpu-check
programs=$root/bin
[ -e "$root/BUNDLE.txt" ] || programs=$root/build/release/bin
peers=""

fail() {
  echo "gpu.sh: $2" >&2
  exit "$1"
}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --peers) peers=yes && shift ;;
    --only | --options | --out | --programs)
      [ -n "${2:-}" ] || fail 64 "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    *) fail 64 "'$1' is not known here; --help tells the options" ;;
  esac
done
for benchmark in $only; do
  [[ " $benchmarks " == *" $benchmark "* ]] || fail 64 "there is no '$benchmark', only: $benchmarks"
done
read -r -a options <<< "$options"
mkdir -p "$out" || fail 74 "cannot make $out"
if [ -e "$root/env.sh" ] && [ -z "${OPAL_PREFIX:-}" ]; then source "$root/env.sh"; fi
tables=$out/gpu.md
failed=0

# run NAME COMMAND...: what it prints goes to the tables.
run() {
  local name=$1 log=$out/benchmark-$1.log
  shift
  echo "measuring: $name"
  if "$@" > "$log" 2> "$log.errors"; then
    rm -f "$log.errors"
  else
    failed=$((failed + 1))
    echo "$name has failed: $(tail -n 1 "$log.errors")"
  fi
  { cat "$log" && echo; } >> "$tables"
}

{
  machine=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader \
    2> /dev/null)
  printf '%s, %s\n\n' "${machine:-no nvidia-smi}" "$(date +%F)"
  printf '`benchmarks/gpu.sh%s`\n\n' "${options:+ --options \"${options[*]}\"}"
} > "$tables"
for benchmark in $only; do
  program=$programs/benchmark_gpu_$benchmark
  [ -x "$program" ] || fail 66 "$program is missing; tests/gpu.sh --help says how to build it"
  run "$benchmark" "$program" "${options[@]}"
done
if [ -n "$peers" ]; then
  for peer in attention step; do
    run "peers-$peer" python3 "$root/benchmarks/peers/$peer.py"
  done
fi

echo
cat "$tables"
[ "$failed" -eq 0 ]

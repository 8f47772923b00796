#!/usr/bin/env bash
# Checks one GPU and measures it, from the source tree or from a bundle (launch/bundle.sh): every
# test with a GPU, ranks that share the GPU, the kernels under compute-sanitizer, the benchmarks.
# Goes on behind what fails, keeps every log, ends with a table, and fails where anything has failed.
set -uo pipefail

usage() {
  cat << END
usage: tests/gpu.sh [options]

options
  --minutes N         to take at most, the most important first (default 30, or GPU_MINUTES)
  --only "A B"        of the parts: $parts
  --out FOLDER        for logs and tables (default gpu-check)
  --programs FOLDER   where they are (default bin of the bundle, or build/release/bin)
  --communicators "A B"  that ranks are tried with (default "nccl mpi")

parts
  tests       all test programs with a GPU
  ranks       2, 3 and 4 processes on the one GPU: the tests of communicators, and training
  memcheck    kernels under compute-sanitizer, where there is one: accesses
  racecheck   the same: races within shared memory
  benchmarks  benchmarks/gpu.sh

In the source tree, build first:
  cmake --preset release && cmake --build build/release --target longscan gpu_tests gpu_benchmarks
END
}

parts="tests ranks memcheck racecheck benchmarks"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
minutes=${GPU_MINUTES:-30}
only=$parts
out=gpu-check
programs=$root/bin
[ -e "$root/BUNDLE.txt" ] || programs=$root/build/release/bin
communicators="nccl mpi"

fail() {
  echo "gpu.sh: $2" >&2
  exit "$1"
}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --minutes | --only | --out | --programs | --communicators)
      [ -n "${2:-}" ] || fail 64 "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    *) fail 64 "'$1' is not known here; --help tells the options" ;;
  esac
done
[[ $minutes =~ ^[0-9]{1,4}$ ]] || fail 64 "--minutes needs a number, not '$minutes'"
for part in $only; do
  [[ " $parts " == *" $part "* ]] || fail 64 "there is no part '$part', only: $parts"
done
mkdir -p "$out" || fail 74 "cannot make $out"
out=$(cd "$out" && pwd)
programs=$(cd "$programs" 2> /dev/null && pwd) ||
  fail 66 "there are no programs; --help says how to build them"
if [ -e "$root/env.sh" ]; then source "$root/env.sh"; fi
export out programs PATH="$programs:$PATH"

# -- Steps and their outcomes ---------------------------------------------------------------------

end=$((SECONDS + 60 * minutes))
rows=()
failed=0

# note PART OUTCOME SECONDS DETAILS
note() {
  rows+=("$(printf '| %-28s | %-4s | %5s | %s |' "$@")")
  printf '%-4s  %-28s %5s s  %s\n' "$2" "$1" "$3" "$4"
  if [ "$2" = FAIL ]; then failed=$((failed + 1)); fi
}

# What a log has to say for itself, in one line: LOG
details_of() {
  local ok skipped
  ok=$(grep -c '^\[       OK' "$1")
  skipped=$(grep -c '^\[  SKIPPED \].*(' "$1")
  {
    if [ "$ok" -gt 0 ] || [ "$skipped" -gt 0 ]; then echo "$ok passed, $skipped skipped"; fi
    sed -nE -e '$s/^note: //p' -e '/^[0-9]+ steps, losses/p' "$1"
  } | paste -s -d ' '
}

# The lines of a log that tell what went wrong: LOG
complaints_of() {
  grep -hE '^\[  FAILED  \].*\(|Failure$|: what|^========= [A-Z]|longscan: |WRONG|has failed' "$1" |
    sort -u | head -n 12 | grep . || tail -n 5 "$1"
}

# step NAME SECONDS COMMAND...: in the time that is left. The command may be a function. Status 77:
# skipped, and the log's last line says why.
step() {
  local name=$1 limit=$2 left=$((end - SECONDS)) begin=$SECONDS status details
  export log=$out/$1.log
  shift 2
  if [ "$left" -lt 5 ]; then
    note "$name" skip 0 "no time is left"
    return 1
  fi
  [ "$limit" -le "$left" ] || limit=$left
  rm -f "$log".[0-3]
  timeout --kill-after=10 "$limit" bash -c '"$@"' _ "$@" > "$log" 2>&1 < /dev/null
  status=$?
  cat "$log".[0-3] >> "$log" 2> /dev/null && rm -f "$log".[0-3]
  details=$(details_of "$log")
  case $status in
    0) note "$name" PASS $((SECONDS - begin)) "$details" ;;
    77) note "$name" skip $((SECONDS - begin)) "$(tail -n 1 "$log")" ;;
    124 | 137) note "$name" FAIL $((SECONDS - begin)) "not done within $limit s; $details" ;;
    *)
      note "$name" FAIL $((SECONDS - begin)) "exit status $status; $details"
      complaints_of "$log" | sed 's/^/      /'
      ;;
  esac
  return "$status"
}

# -- Tests ----------------------------------------------------------------------------------------

# Runs a test program in four processes at once, each with a quarter of the tests: COMMAND...
quartered() {
  local quarter status=0 children=()
  for quarter in 0 1 2 3; do
    GTEST_TOTAL_SHARDS=4 GTEST_SHARD_INDEX=$quarter "$@" > "$log.$quarter" 2>&1 &
    children+=($!)
  done
  for child in "${children[@]}"; do wait "$child" || status=$?; done
  if [ "$status" -eq 0 ] && ! grep -q '^\[       OK' "$log".[0-3]; then
    echo "note: no test has passed"
    status=1
  fi
  return "$status"
}

tests() {
  for room in kernels whole dist model; do
    step "tests-$room" 300 quartered "gpu_test_$room"
  done
}

# -- Ranks on one GPU -----------------------------------------------------------------------------

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none

# on_ranks COUNT COMMAND...: NCCL refuses ranks that share a GPU, so each claims to be on a machine
# of its own, and they meet over the network's loop.
on_ranks() {
  local ranks=$1
  shift
  NCCL_NET=Socket NCCL_SOCKET_IFNAME=lo NCCL_MNNVL_ENABLE=0 NCCL_MAX_NCHANNELS=2 \
    mpirun --bind-to none -n "$ranks" \
    bash -c 'NCCL_HOSTID=rank-$OMPI_COMM_WORLD_RANK exec "$@"' _ "$@"
}

# Proteins in which a letter says something about the next one.
make_corpus() {
  mkdir -p "$out/ranks" && cd "$out/ranks" && rm -rf ./*
  awk 'BEGIN { srand(7); letters = "ACDEFGHIKLMNPQRSTVWY"
    for (record = 0; record < 300; ++record) {
      printf ">protein_%d\n", record; letter = int(20 * rand())
      for (i = 60 + int(200 * rand()); i > 0; --i) {
        printf "%s", substr(letters, letter + 1, 1)
        letter = rand() < 0.25 ? int(20 * rand()) : (letter * 7 + 3) % 20
      }
      printf "\n"
    } }' > proteins.fasta
  longscan pack proteins.fasta --out store.h5 --validation-fraction 0.1
  cat > model.textproto << 'END'
data { store: "store.h5" window: 509 batch: 3 }
model { width: 64 layers: 2 heads: 2 hidden: 128 attention { features: 64 } }
optimizer { learning_rate: 3e-3 warmup_steps: 5 }
training { max_steps: 20 log_every: 1 }
parallel { threads: 1 }
END
}

# train RANKS RUN OPTIONS...
train() {
  local ranks=$1 run=$2
  shift 2
  cd "$out/ranks" && rm -rf "$run" &&
    on_ranks "$ranks" longscan train --config model.textproto --run "$run" "$@"
}

# The losses of a run's steps: RUN
losses_of() { sed -nE 's/.*"loss": ([^,}]+).*/\1/p' "$out/ranks/$1/metrics.jsonl"; }

# same_losses RUN OTHER TOLERANCE
same_losses() {
  paste <(losses_of "$1") <(losses_of "$2") | awk -v tolerance="$3" '
    NF == 2 { difference = $1 > $2 ? $1 - $2 : $2 - $1; if (difference > worst) worst = difference }
    NF != 2 || $1 != $1 + 0 || $2 != $2 + 0 { print "losses are missing: " $0; bad = 1 }
    END { printf "%d steps, losses differ by %.2g at most (bound %g)\n", NR, worst, tolerance
          exit !(NR == 20 && !bad && worst <= tolerance) }'
}

# train_alike RANKS RUN OTHER TOLERANCE OPTIONS...: trains, and compares with what another run lost.
train_alike() {
  local ranks=$1 run=$2 other=$3 tolerance=$4
  shift 4
  train "$ranks" "$run" "$@" && same_losses "$run" "$other" "$tolerance"
}
export -f quartered on_ranks make_corpus train losses_of same_losses train_alike

# alike KIND COMMUNICATOR RANKS TOLERANCE OPTIONS...: against the CPU
alike() {
  local kind=$1 communicator=$2 count=$3 tolerance=$4 run
  shift 4
  run=$kind-$communicator-$count${1:+-bf16}
  step "ranks-$run" 120 train_alike "$count" "$run" "$kind-cpu" "$tolerance" --device=cuda \
    --set "model.attention.kind=$kind" "--communicator=$communicator" "$@"
}

ranks() {
  local kind communicator count
  for count in 2 3 4; do
    step "communicators-$count" 120 on_ranks "$count" device_communicator_test
  done
  step "ranks-corpus" 60 make_corpus || return
  for kind in elu1 favor_softmax softmax; do
    step "ranks-$kind-cpu" 120 train 1 "$kind-cpu" --set "model.attention.kind=$kind" \
      --device=cpu || continue
    for communicator in $communicators; do
      for count in 1 2 3 4; do
        # Others send what elu1 sends, and more; the host's communicator is tested without a GPU.
        case $kind-$communicator-$count in
          elu1-nccl-* | *-nccl-3 | *-mpi-2) alike "$kind" "$communicator" "$count" 1e-4 ;;
        esac
      done
    done
  done
  alike elu1 "${communicators%% *}" 3 2e-2 --precision=bf16
}

# -- The sanitizer --------------------------------------------------------------------------------

# Kernels under a tool of compute-sanitizer, as many as there is time for: TOOL SECONDS
sanitized() {
  local sanitizer status
  for sanitizer in compute-sanitizer "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" \
    "${CUDA_HOME:-/usr/local/cuda}/compute-sanitizer/compute-sanitizer" ""; do
    command -v "$sanitizer" > /dev/null && break
  done
  if [ -z "$sanitizer" ]; then
    echo "there is no compute-sanitizer"
    return 77
  fi
  quartered timeout "$2" "$sanitizer" --tool "$1" --error-exitcode 9 \
    "$programs/gpu_test_kernels" --gtest_filter='*Cuda*'
  status=$?
  cat "$log".[0-3] && rm -f "$log".[0-3]
  if grep -q 'Device not supported' "$log"; then
    echo "compute-sanitizer does not support this device"
    return 77
  fi
  if [ "$status" -eq 124 ] &&
    ! grep -qE '^\[  FAILED|^========= +(Invalid|Error|Warn|Race)' "$log"; then
    echo "note: nothing found in the tests that $2 s were enough for"
    return 0
  fi
  return "$status"
}
export -f sanitized

# At most a third of what is left each, for they are slow.
under() {
  local share=$(((end - SECONDS) / 3))
  step "$1" "$share" sanitized "$1" $((share > 30 ? share - 15 : 15))
}
memcheck() { under memcheck; }
racecheck() { under racecheck; }

# -- Benchmarks -----------------------------------------------------------------------------------

benchmarks() {
  step benchmarks $((end - SECONDS)) "$root/benchmarks/gpu.sh" --programs "$programs" --out "$out"
}

# -- All of it ------------------------------------------------------------------------------------

for program in longscan gpu_test_kernels benchmark_gpu_ceilings; do
  [ -x "$programs/$program" ] ||
    fail 66 "$programs/$program is missing; --help says how to build it"
done
# The program itself knows best what is missing.
if ! benchmark_gpu_ceilings --small=1 > "$out/gpu.log" 2>&1; then
  fail 69 "there is no GPU that works here: $(tail -n 1 "$out/gpu.log")"
fi
nvidia-smi > "$out/nvidia-smi.log" 2>&1
rm -f "$out/gpu.md"
sed -n 's/^### Ceilings: //p' "$out/gpu.log"

for part in $parts; do
  [[ " $only " == *" $part "* ]] && "$part"
done

{
  printf '\n| %-28s | %-4s | %5s | %s |\n|---|---|---|---|\n' check "" s ""
  printf '%s\n' "${rows[@]}"
} | tee "$out/checks.md"
if [ -e "$out/gpu.md" ]; then printf '\n%s:\n\n' "$out/gpu.md" && cat "$out/gpu.md"; fi
printf '\n%s of %s steps failed; logs are in %s\n' "$failed" "${#rows[@]}" "$out"
[ "$failed" -eq 0 ]

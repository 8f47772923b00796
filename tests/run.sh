#!/usr/bin/env bash
# Installs what is needed, builds, and runs every test. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

give_up() {
  echo "run.sh: $1 failed" >&2
  echo "0 passed, 1 failed"
  exit 1
}

launch/install_packages.sh || give_up "installing packages"
cmake --preset release || give_up "configuring"
cmake --build --preset release --parallel "$(nproc)" || give_up "building"

results="$PWD/build/release/test-results.xml"
rm -f "$results"
ctest --test-dir build/release --parallel 2 --output-on-failure --no-tests=error \
  --output-junit "$results"
status=$?
[ -e "$results" ] || give_up "ctest"

# A number of the first tag of the results: <testsuite ... tests="7" failures="0" skipped="1" ...>
count() {
  grep -m 1 -o "\b$1=\"[0-9]*\"" "$results" | grep -o '[0-9]*'
}
failed=$(count failures)
skipped=$(($(count skipped) + $(count disabled)))
echo "$skipped skipped"
echo "$(($(count tests) - failed - skipped)) passed, $failed failed"
exit "$status"

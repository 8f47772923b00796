#!/usr/bin/env bash
# The README's example builds against the installed package and trains over two ranks.
#   installed_package_test.sh SOURCE BUILD COMPILER_FLAGS MPIRUN...
set -euo pipefail
source=$1 build=$2 flags=$3
shift 3
mpirun=("$@")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cmake --install "$build" --prefix "$folder/prefix" > /dev/null
cp -r "$source/launch/example" example
cmake -S example -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="$flags" \
  -DCMAKE_PREFIX_PATH="$folder/prefix"
cmake --build build

for record in 1 2 3 4 5 6 7 8; do
  printf '>protein_%d\n' $record
  for _ in $(seq 60); do printf 'MKVLAAGIVGLLLAQPSWAMDT%.*s\n' $record CDEFGHIK; done
done > proteins.fasta
prefix/bin/longscan pack proteins.fasta --out store.h5
"${mpirun[@]}" -n 2 build/example store.h5 | tee output
grep -q '^step 20  loss' output
prefix/bin/longscan inspect example-run

first=$(awk '/^step 1 / {print $4}' output)
last=$(awk '/^step 20 / {print $4}' output)
awk -v first="$first" -v last="$last" 'BEGIN {exit !(last < 0.9 * first)}' ||
  { echo "the loss went from $first to $last"; exit 1; }

# The README shows this very program.
awk '/^```cpp$/ {inside = 1; next} /^```$/ {inside = 0} inside' "$source/README.md" > shown.cpp
diff "$source/launch/example/main.cpp" shown.cpp ||
  { echo "README.md shows another example"; exit 1; }

#!/usr/bin/env bash
# From nothing to a trained model of proteins: installs, builds, packs 20,000 sequences of UniProt,
# trains on two ranks for about three minutes, evaluates, and writes a protein of its own.
# A second run goes on where the first one was stopped, or evaluates what it has trained.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

proteins=/usr/share/doc/mmseqs2/example-data/DB.fasta.gz
config=launch/configs/quickstart.textproto
run=runs/quickstart
store=runs/proteins.h5
longscan=build/release/bin/longscan

say() { printf '\n== %s\n' "$*"; }

# Open MPI refuses root and more ranks than cores unless it is told otherwise; with more ranks than
# cores, one that waits should leave its core to the others.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_btl_vader_single_copy_mechanism=none
if [ "$(nproc)" -lt 2 ]; then export OMPI_MCA_mpi_yield_when_idle=1; fi
mpirun=(mpirun --bind-to none -n 2)

say "packages"
launch/install_packages.sh

say "build"
cmake --preset release > build-release.log 2>&1 || { cat build-release.log; exit 1; }
rm -f build-release.log
cmake --build --preset release --target longscan --parallel "$(nproc)"

say "pack: proteins to tokens"
mkdir -p runs
if [ -e "$store" ]; then
  "$longscan" inspect "$store"
else
  "$longscan" pack "$proteins" --out "$store"
fi

say "train: about three minutes on two cores"
"${mpirun[@]}" "$longscan" train --config "$config" --data "$store" --run "$run"

say "evaluate: the held-out proteins"
"${mpirun[@]}" "$longscan" eval --checkpoint "$run" --data "$store"

say "generate: a protein"
"${mpirun[@]}" "$longscan" generate --checkpoint "$run" --prompt M --temperature 0.8 \
  --max-tokens 300 | tee "$run/sample.fasta"

# What somebody types who has none of the variables above.
by_hand="mpirun -n 2"
if [ "$(id -u)" -eq 0 ]; then by_hand="mpirun --allow-run-as-root -n 2"; fi
if [ "$(nproc)" -lt 2 ]; then by_hand="$by_hand --oversubscribe"; fi

say "done"
cat << END
checkpoint  $PWD/$run/$(cat "$run/latest")
metrics     $PWD/$run/metrics.jsonl, and for TensorBoard the event files beside it

Try next:
  $longscan inspect $run
  $longscan generate --checkpoint $run -n 4 --top-p 0.9
  $by_hand $longscan train --config $config --data $store --run $run --max-steps 5000
  $longscan pack YOUR.fasta.gz --out runs/yours.h5
  $by_hand $longscan train --config $config --data runs/yours.h5 --run runs/yours
END

#!/usr/bin/env bash
# Draws time against length, one curve a kind of attention, from the tables that
# `benchmark_kernels --kinds=1 --out=CALLS` and `benchmark_step --kinds=1 --out=STEPS` write.
#   plot.sh CALLS STEPS OUT.png
set -euo pipefail
if [ $# -ne 3 ]; then
  echo "plot.sh: CALLS STEPS OUT.png: two tables and the picture to write" >&2
  exit 64
fi
command -v gnuplot > /dev/null || { echo "plot.sh: gnuplot is missing (package gnuplot-nox)" >&2; exit 1; }
gnuplot -d -c "$(dirname "${BASH_SOURCE[0]}")/plot.gp" "$@"

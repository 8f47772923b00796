# To be sourced by bash: puts the bundle's programs on the PATH, tells Open MPI where it is now, and
# finds the libraries of CUDA that BUNDLE.txt names.

longscan_bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH="$longscan_bundle/bin:$PATH"

export OPAL_PREFIX=$longscan_bundle/openmpi
export OPAL_EXEC_PREFIX=$OPAL_PREFIX OPAL_BINDIR=$OPAL_PREFIX/bin OPAL_SBINDIR=$OPAL_PREFIX/bin
export OPAL_LIBDIR=$longscan_bundle/lib OPAL_PKGLIBDIR=$OPAL_PREFIX/plugins
export OPAL_DATADIR=$OPAL_PREFIX/help OPAL_PKGDATADIR=$OPAL_PREFIX/help
export OPAL_SYSCONFDIR=$OPAL_PREFIX/etc
# No plugins of another PMIx or hwloc that the machine may have: the libraries have what is needed.
export PMIX_PREFIX=$OPAL_PREFIX PMIX_MCA_mca_base_component_path=$OPAL_PREFIX/etc
export PMIX_MCA_pcompress_base_silence_warning=1 HWLOC_PLUGINS_PATH=$OPAL_PREFIX/etc
# Open MPI asks for it even where all ranks are on one machine.
command -v ssh > /dev/null || export OMPI_MCA_plm_rsh_agent=sh

# Folders in which CUDA's libraries may be.
longscan_cuda_folders() {
  local root python
  for root in "${CUDA_HOME:-}" "${CUDA_PATH:-}" "${NCCL_HOME:-}" "${NCCL_ROOT:-}" \
    /usr/local/cuda /usr/local/cuda-* /usr/local/nvidia /opt/cuda /usr /usr/local; do
    [ -z "$root" ] || printf '%s\n' "$root/lib64" "$root/lib" "$root/targets/x86_64-linux/lib" \
      "$root/lib/x86_64-linux-gnu"
  done
  for python in python3 python; do
    command -v "$python" > /dev/null && "$python" -c '
import glob, sys
for path in sys.path:
    for folder in sorted(glob.glob(path + "/nvidia/*/lib")):
        print(folder)'
  done
}

# longscan_find NAME: adds the folder with that library, unless the loader finds it as it is.
longscan_find() {
  local folder paths=${LD_LIBRARY_PATH:-}
  { ldconfig -p || /sbin/ldconfig -p; } 2> /dev/null | grep -qF "	$1 (" && return 0
  while IFS= read -r folder; do
    [ -n "$folder" ] && [ -e "$folder/$1" ] && return 0
  done <<< "${paths//:/$'\n'}"
  while IFS= read -r folder; do
    [ -e "$folder/$1" ] || continue
    export LD_LIBRARY_PATH="$folder${paths:+:$paths}"
    return 0
  done < <(longscan_cuda_folders)
  echo "env.sh: $1 is not found: $2" >&2
  return 1
}

for longscan_library in $(sed -n 's/^needs library //p' "$longscan_bundle/BUNDLE.txt"); do
  longscan_find "$longscan_library" "set CUDA_HOME or LD_LIBRARY_PATH, or activate a Python \
environment with PyTorch" || true
done
longscan_find libcuda.so.1 "the GPU's driver is missing, so only the CPU computes" || true
unset -f longscan_cuda_folders longscan_find
unset longscan_library

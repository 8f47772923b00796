#!/usr/bin/env bash
# Makes a folder, and an archive of it, with the program, the tests and benchmarks for GPUs, and the
# shared libraries they need: it runs on another Linux with a GPU and no packages installed.
#   launch/bundle.sh [FOLDER]      default: build/bundle/longscan-VERSION-linux-x86_64
# The C library, the GPU's driver, CUDA, cuBLAS and NCCL are not in it. BUNDLE.txt within says what
# must be there, and how to run a check. Set CMAKE_CXX_COMPILER_LAUNCHER and
# CMAKE_CUDA_COMPILER_LAUNCHER to build with ccache.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

most_bytes=60000000 # of the archive
build=build/bundle
version=$(sed -nE 's/^project\(Longscan VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
bundle=$(realpath -ms -- "${1:-$build/longscan-$version-linux-x86_64}")

fail() {
  echo "bundle.sh: $1" >&2
  exit 1
}
say() { printf '\n== %s\n' "$*"; }

for tool in cmake ldd objdump strip ompi_info; do
  command -v "$tool" > /dev/null || fail "$tool is missing (launch/install_packages.sh)"
done
if [ -e "$bundle" ] && [ ! -e "$bundle/BUNDLE.txt" ]; then
  fail "$bundle is there, and is no bundle: remove it, or name another folder"
fi

# -- The programs ---------------------------------------------------------------------------------

say "build"
# DT_RPATH, unlike its successor, holds for the libraries of libraries too.
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLONGSCAN_CUDA=ON \
  -DLONGSCAN_CPU_ARCH=x86-64-v3 -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
  -DCMAKE_INSTALL_RPATH='$ORIGIN/../lib' -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags \
  > "$build.log" 2>&1 || { cat "$build.log" >&2 && fail "configuring failed"; }
rm -f "$build.log"
programs=(longscan gpu_test_kernels gpu_test_dist gpu_test_model gpu_test_whole
  benchmark_gpu_ceilings benchmark_gpu_attention benchmark_gpu_streams benchmark_gpu_step)
for source in tests/mpi/*_test.cpp; do programs+=("$(basename "$source" .cpp)"); done
cmake --build "$build" --parallel "${JOBS:-$(nproc)}" --target "${programs[@]}"

say "copy"
rm -rf "$bundle"
mkdir -p "$bundle"/{bin,lib,openmpi,launch,tests,benchmarks}
for program in "${programs[@]}"; do
  strip -o "$bundle/bin/$program" "$build/bin/$program"
done
cp -r launch/configs "$bundle/launch/"
cp tests/gpu.sh "$bundle/tests/"
cp -r benchmarks/gpu.sh benchmarks/peers "$bundle/benchmarks/"
rm -rf "$bundle/benchmarks/peers/__pycache__"
cp launch/bundle/env.sh LICENSE "$bundle/"
cp launch/bundle/mpirun "$bundle/bin/"

# -- Open MPI at run time -------------------------------------------------------------------------

open_mpi() { ompi_info --parsable --path "$1" | sed "s/^path:$1://"; }

mkdir -p "$bundle/openmpi"/{bin,plugins,help,etc}
for program in orterun orted; do
  strip -o "$bundle/openmpi/bin/$program" "$(readlink -f "$(open_mpi bindir)/$program")"
done
ln -s orterun "$bundle/openmpi/bin/mpirun"
cp "$(open_mpi pkgdatadir)"/help-*.txt "$bundle/openmpi/help/"
# Ranks of one machine meet in its memory. The plugins of fast networks drag much along, and speak
# to drivers that another machine does not have.
for plugin in "$(open_mpi pkglibdir)"/mca_*.so; do
  if ! ldd "$plugin" | grep -qE 'lib(ucp|fabric|psm2?|psm_infinipath|ibverbs|oshmem)\.so'; then
    strip -o "$bundle/openmpi/plugins/$(basename "$plugin")" "$plugin"
  fi
done

# -- Shared libraries -----------------------------------------------------------------------------

stays='^(linux-vdso|ld-linux-x86-64|lib(c|m|dl|rt|util|anl|pthread|resolv|nsl|nss_[a-z]+))\.so'
from_cuda='^lib(cuda|cudart|cublas|cublasLt|nccl|nvJitLink)\.so'

elf_files() { find "$bundle" -type f \( -name '*.so*' -o -perm -u+x \) -exec sh -c \
  'for f; do case $(head -c 4 "$f" | tail -c 3) in ELF) echo "$f" ;; esac; done' sh {} +; }
mapfile -t files < <(elf_files)
# "NAME PATH" of all that they need, and what these need in turn.
needed=$(ldd "${files[@]}" |
  sed -nE 's/^\s+(\S+) => (\S.*) \(0x.*|^\s+(\S+) => (not found)/\1\3 \2\4/p' |
  sort -u | grep -vE "$stays")
cuda=$(awk '{ print $1 }' <<< "$needed" | grep -E "$from_cuda" | sort -u || true)
while read -r name path; do
  [ "$path" != "not found" ] || fail "$name is needed and not there"
  strip -o "$bundle/lib/$name" "$(readlink -f "$path")"
done < <(grep -vE "$from_cuda" <<< "$needed" | grep -vF " $bundle/")

# -- What must be there ---------------------------------------------------------------------------

mapfile -t files < <(elf_files)
symbols=$(objdump -T "${files[@]}" 2> /dev/null | grep -oE '\(GLIBC_[0-9.]+\) +\S+' | sort -uV)
glibc=$(grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' <<< "$symbols" | sort -uV | tail -1)
{
  echo "Longscan $version: the program, its tests and benchmarks for GPUs"
  printf '\nneeds glibc %s or later (%s)\n' "$glibc" \
    "$(grep -F "GLIBC_$glibc)" <<< "$symbols" | awk '{ print $2 }' | sort -u | paste -s -d ' ')"
  echo "needs a processor with AVX2 and a GPU of compute capability 8.0 or later"
  for name in $cuda; do echo "needs library $name"; done
  cat << 'END'

The libraries are looked for where CUDA_HOME and LD_LIBRARY_PATH say, in /usr/local/cuda*, and in
the Python environment with PyTorch that is active. In bash:

  source env.sh          # finds them; then longscan and mpirun are on the PATH
  tests/gpu.sh           # checks and measures the GPU; --help tells its options
END
} > "$bundle/BUNDLE.txt"

say "pack"
archive=$bundle.tar.gz
tar -C "$(dirname "$bundle")" --owner=0 --group=0 -cf - "$(basename "$bundle")" |
  gzip -9 > "$archive"
bytes=$(stat -c %s "$archive")
sed -n '/^needs/p' "$bundle/BUNDLE.txt"
echo "$(du -sh --apparent-size "$bundle" | cut -f 1) $bundle"
echo "$((bytes / 1000000)) MB $archive"
[ "$bytes" -le "$most_bytes" ] || fail "the archive is larger than $((most_bytes / 1000000)) MB"

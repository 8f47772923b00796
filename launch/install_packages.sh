#!/usr/bin/env bash
# Installs the Debian packages that Longscan is built, tested and tried out with. What is there
# already is left alone, and then no network is needed.
set -euo pipefail

packages=(
  build-essential cmake ninja-build                 # build
  libopenmpi-dev openmpi-bin                        # dist
  libopenblas-pthread-dev                           # kernels
  libhdf5-dev libprotobuf-dev protobuf-compiler     # io
  zlib1g-dev libssl-dev                             # io
  libcli11-dev libfmt-dev                           # launch, messages
  gnuplot-nox                                       # pictures of `longscan inspect`
  libgtest-dev libgmock-dev clang-format            # tests
  python3-h5py                                      # the README's reader of checkpoints
  mmseqs2-examples                                  # 20,000 protein sequences of UniProt
)
proteins=/usr/share/doc/mmseqs2/example-data/DB.fasta.gz

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "install_packages.sh: this is no Debian; install the equivalents of: ${packages[*]}" >&2
  exit 1
fi

installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ] && [ -e "$proteins" ]; then
  echo "all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "install_packages.sh: needs root or sudo to install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"
}

apt_get update || { sleep 5 && apt_get update; }
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}"
  apt_get install --no-install-recommends "${missing[@]}"
fi
# Small images of Debian leave out all of /usr/share/doc, where the sequences are.
if [ ! -e "$proteins" ]; then
  apt_get install --reinstall -o Dpkg::Options::=--path-include='/usr/share/doc/mmseqs2/*' \
    mmseqs2-examples
fi

#!/usr/bin/env bash
# Installs the Debian packages that the build and the tests need. Quick when everything is there (no apt call at all).
#   scripts/install_packages.sh           compiler, build tools, libraries
#   scripts/install_packages.sh --fuzz    also clang and its runtime, for the fuzz targets and clang-format
# Runs as root or through sudo. Package names are those of Debian 12.
set -euo pipefail

packages=(
  ca-certificates           # certificates for https downloads of models
  cmake                     # build description, at least 3.25
  g++                       # C++20 compiler, at least 12
  libbenchmark-dev          # kernel benchmarks
  libcli11-dev              # command line parsing
  libfmt-dev                # text formatting (g++ 12 has no std::format)
  libgmock-dev libgtest-dev # unit tests
  libicu-dev                # Unicode normalisation and character classes
  libopenblas-pthread-dev   # factorisations and matrix products of the compression solvers, one thread per call
  libpcre2-dev              # pre-tokenizer regular expressions, with limits
  libsimde-dev              # runs the AVX-512 kernels under emulation in the tests
  libssl-dev                # SHA-256 of written files
  libyaml-cpp-dev           # compression recipes
  ninja-build               # build driver
  nlohmann-json3-dev        # JSON parser, behind our depth and size limits
  pkg-config                # finds PCRE2
)
for option in "$@"; do
  case "$option" in
    --fuzz) packages+=(clang-14 libclang-rt-14-dev clang-format) ;;
    *) echo "usage: $0 [--fuzz]" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "install_packages.sh: dpkg-query not found: this is not a Debian system." >&2
  echo "Install these (or your distribution's names for them) by hand, then build with cmake:" >&2
  echo "  ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  # Packages of several architectures print one state per architecture.
  [[ "$state" == *installed* && "$state" != *not-installed* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages.sh: missing packages: ${missing[*]}" >&2
    echo "This needs root, and sudo is not installed. Run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A package list may be absent or stale, so refresh it first; a failing mirror matters only if the install then fails.
"${as_root[@]}" apt-get update -qq >"$log" 2>&1 || true
if ! "${install[@]}" >>"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "install_packages.sh: apt-get could not install: ${missing[*]}" >&2
  exit 1
fi

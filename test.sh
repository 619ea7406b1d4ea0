#!/usr/bin/env bash
# The tests from nothing: packages, build, ctest. Prints ctest's summary per suite and exits non-zero on any failure.
#   ./test.sh                  release suite (with CI=true: as --all)
#   ./test.sh --asan           suite under AddressSanitizer and UndefinedBehaviorSanitizer
#   ./test.sh --tsan           suite under ThreadSanitizer
#   ./test.sh --fuzz SECONDS   each fuzz target for that long, from its committed seeds (clang)
#   ./test.sh --all            release, asan, and 20 s of every fuzz target
# Options add up. Golden vectors beyond the committed ones are read from $FETTLE_VECTORS_DIR when it is set.
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
cd "$root"

usage() {
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

suites=()
fuzz_seconds=0
while [[ $# -gt 0 ]]; do
  case "$1" in
    --release|--asan|--tsan) suites+=("${1#--}") ;;
    --all) suites+=(release asan); fuzz_seconds=20 ;;
    --fuzz)
      fuzz_seconds=${2:-}
      [[ "$fuzz_seconds" =~ ^[1-9][0-9]*$ ]] || usage
      shift ;;
    *) usage ;;
  esac
  shift
done
if [[ ${#suites[@]} -eq 0 && $fuzz_seconds -eq 0 ]]; then
  suites=(release)
  [[ "${CI:-}" != true ]] || { suites=(release asan); fuzz_seconds=20; }
fi

packages=()
[[ $fuzz_seconds -eq 0 ]] || packages=(--fuzz)
scripts/install_packages.sh "${packages[@]}"

# Sanitizer reports end the process with a status that no test expects of the program.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:exitcode=99}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1:exitcode=99}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1:exitcode=99}

failed=()
for suite in "${suites[@]}"; do
  scripts/build.sh "$suite"
  echo "== $suite suite"
  ctest --preset "$suite" -j "$(nproc)" || failed+=("$suite suite")
done
if [[ $fuzz_seconds -gt 0 ]]; then
  scripts/build.sh fuzz
  scripts/fuzz.sh "$fuzz_seconds" || failed+=("fuzz targets")
fi

if [[ ${#failed[@]} -gt 0 ]]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi

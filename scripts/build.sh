#!/usr/bin/env bash
# Configures (when needed) and builds one preset.
#   scripts/build.sh PRESET [TARGET...]
# Everything goes to a log that is shown only when the build fails; progress is printed to stderr on a terminal.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
preset=${1:?usage: scripts/build.sh PRESET [TARGET...]}
shift
cd "$root"
mkdir -p "build/$preset"
log="build/$preset/build.log"

targets=()
[[ $# -eq 0 ]] || targets=(--target "$@")
echo "Building $preset (the first time takes minutes; log: $log)" >&2
start=$SECONDS
if ! { [[ -f "build/$preset/build.ninja" ]] || cmake --preset "$preset"; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "build.sh: cmake --preset $preset failed" >&2
  exit 1
fi
if [[ -t 2 ]]; then
  cmake --build --preset "$preset" "${targets[@]}" | tee -a "$log" >&2
elif ! cmake --build --preset "$preset" "${targets[@]}" >>"$log" 2>&1; then
  grep -E -A 20 '^FAILED|error:' "$log" >&2 || tail -n 40 "$log" >&2
  echo "build.sh: building $preset failed" >&2
  exit 1
fi
echo "Built $preset in $((SECONDS - start)) s" >&2

#!/usr/bin/env bash
# Runs every built fuzz target (build/fuzz/bin/*_fuzz) for a number of seconds, two at a time.
#   scripts/fuzz.sh SECONDS [TARGET...]
# Seeds: tests/corpus/TARGET/ (committed, read only); new inputs stay in build/fuzz/corpus/TARGET. A finding is written
# to build/fuzz/findings/ and its log is printed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET...]}
shift

targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
  for program in build/fuzz/bin/*_fuzz; do
    [[ -x "$program" ]] && targets+=("$(basename "$program" _fuzz)")
  done
fi
if [[ ${#targets[@]} -eq 0 ]]; then
  echo "fuzz.sh: no fuzz target in build/fuzz/bin" >&2
  exit 1
fi

run_one() {
  local target=$1 status=0
  local work="build/fuzz/corpus/$target" seeds="tests/corpus/$target" log="build/fuzz/$target.log"
  mkdir -p "$work" build/fuzz/findings
  local inputs=("$work")
  [[ ! -d "$seeds" ]] || inputs+=("$seeds")
  local dictionary=()
  [[ ! -f "fuzz/$target.dict" ]] || dictionary=("-dict=fuzz/$target.dict")
  "build/fuzz/bin/${target}_fuzz" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=512 -malloc_limit_mb=256 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$target-" "${dictionary[@]}" "${inputs[@]}" \
    >"$log" 2>&1 || status=$?
  if [[ $status -ne 0 ]]; then
    tail -n 60 "$log"
    echo "fuzz $target: FAILED (status $status)"
    return 1
  fi
  echo "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs," \
    "$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 || true), no finding"
}

failed=0
passed=0
running=()
for target in "${targets[@]}"; do
  run_one "$target" &
  running+=($!)
  if [[ ${#running[@]} -eq 2 ]]; then
    for pid in "${running[@]}"; do if wait "$pid"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; done
    running=()
  fi
done
for pid in "${running[@]}"; do if wait "$pid"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; done
echo "fuzz: $passed passed, $failed failed"
[[ $failed -eq 0 ]]

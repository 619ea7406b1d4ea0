#!/usr/bin/env bash
# Names the C++ files that differ from .clang-format; `scripts/check_format.sh --fix` rewrites them. Exits 77 (skipped)
# without clang-format 14: other versions format differently.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=${CLANG_FORMAT:-$(command -v clang-format-14 || command -v clang-format || true)}
if [[ -z "$tool" ]] || ! "$tool" --version | grep -q 'version 14\.'; then
  echo "clang-format 14 not found: skipped"
  exit 77
fi
mapfile -t files < <(find src apps tests bench fuzz \( -name '*.h' -o -name '*.cpp' \) 2>/dev/null | sort)
if [[ "${1:-}" == --fix ]]; then
  "$tool" -i "${files[@]}"
  exit 0
fi
if ! report=$("$tool" --dry-run --Werror "${files[@]}" 2>&1); then
  grep -oE '^[^ :]+:[0-9]+' <<<"$report" | sort -t: -k1,1 -u | sed 's/$/: not formatted (scripts\/check_format.sh --fix)/'
  exit 1
fi

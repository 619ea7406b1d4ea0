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
bad=0
for file in "${files[@]}"; do
  if ! "$tool" --style=file "$file" | cmp -s - "$file"; then
    echo "$file: not formatted (scripts/check_format.sh --fix)"
    bad=1
  fi
done
exit $bad

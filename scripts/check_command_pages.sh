#!/usr/bin/env bash
# Names the pages of docs/commands whose "## Options" block differs from `fettle COMMAND --help`.
#   scripts/check_command_pages.sh [--fix]      --fix rewrites the blocks
# FETTLE names the program; default build/release/bin/fettle.
set -euo pipefail
cd "$(dirname "$0")/.."
fettle=${FETTLE:-build/release/bin/fettle}
status=0
for page in docs/commands/*.md; do
  command=$(basename "$page" .md)
  [[ $command == help ]] && help=$("$fettle" --help) || help=$("$fettle" "$command" --help)
  wanted=$(sed '/^## Options$/q' "$page"; printf '\n```\n%s\n```\n' "$help")
  if [[ $(cat "$page") != "$wanted" ]]; then
    if [[ "${1:-}" == --fix ]]; then
      printf '%s\n' "$wanted" >"$page"
    else
      echo "$page: differs from the program's help (scripts/check_command_pages.sh --fix)"
      status=1
    fi
  fi
done
for command in $("$fettle" --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
  if [[ ! -f docs/commands/$command.md ]]; then
    echo "docs/commands/$command.md: missing"
    status=1
  fi
done
exit $status

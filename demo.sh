#!/usr/bin/env bash
# The main job from nothing: packages, release build, then `fettle demo` with the given options.
#   ./demo.sh [fettle demo options]     e.g. ./demo.sh -o /tmp/report
set -euo pipefail
root=$(cd "$(dirname "$0")" && pwd)
"$root/scripts/install_packages.sh"
"$root/scripts/build.sh" release fettle
exec "$root/build/release/bin/fettle" demo "$@"

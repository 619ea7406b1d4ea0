#!/usr/bin/env bash
# Prefill and decode speed of fettle and of a llama.cpp-style peer on the same random weights, in one run.
#   bench/side_by_side.sh [-t THREADS] [-r REPETITIONS] [-d WORKDIR]
# LLAMA_BENCH and IK_LLAMA_BENCH name llama-bench programs of llama.cpp and ik_llama.cpp; the ones that are set are run.
# Weights: `fettle synth --arch llama --params 1b` (hidden 2048, 16 layers, 32/8 heads of 64, FFN 8192, vocabulary
# 32000), compressed and exported by fettle itself, kept in WORKDIR for the next run. Prompt 256 tokens, generation 32.
# Prints one table: tokens/s per program and format, and the share of this machine's limits that fettle reaches.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
fettle=${FETTLE:-$root/build/release/bin/fettle}
threads=2 repetitions=3 work=${TMPDIR:-/tmp}/fettle-side-by-side
while getopts t:r:d: flag; do
  case "$flag" in
    t) threads=$OPTARG ;;
    r) repetitions=$OPTARG ;;
    d) work=$OPTARG ;;
    *) exit 2 ;;
  esac
done
mkdir -p "$work"

base=$work/base
[[ -d $base ]] || "$fettle" synth --arch llama --params 1b -o "$base" >&2
compress() {  # NAME FLAGS...
  local name=$1
  shift
  [[ -d $work/$name ]] || "$fettle" compress "$base" -o "$work/$name" --method rtn "$@" >&2
}
export_gguf() {  # TYPE
  [[ -f $work/$1.gguf ]] || "$fettle" convert "$base" -o "$work/$1.gguf" --outtype "$1" >&2
}
compress int4-g32 --format int4 --group-size 32
compress int4-g128 --format int4 --group-size 128
compress mxfp4 --format mxfp4
compress nvfp4 --format nvfp4
compress int8 --format int8
for type in q4_0 q8_0 bf16 mxfp4; do export_gguf "$type"; done

echo "== fettle, 16-bit activations"
for model in base int8 int4-g32 int4-g128 mxfp4 nvfp4 q4_0.gguf q8_0.gguf; do
  "$fettle" bench "$work/$model" -p 256 -n 32 -t "$threads" -r "$repetitions"
done
echo "== fettle, 8-bit activations"
for model in int8 int4-g32 int4-g128 mxfp4 nvfp4 q4_0.gguf q8_0.gguf; do
  "$fettle" bench "$work/$model" -p 256 -n 32 -t "$threads" -r "$repetitions" --act a8
done
for peer in "${LLAMA_BENCH:-}" "${IK_LLAMA_BENCH:-}"; do
  [[ -n $peer ]] || continue
  echo "== $peer"
  for type in q4_0 mxfp4 q8_0 bf16; do
    "$peer" -m "$work/$type.gguf" -p 256 -n 32 -t "$threads" -r "$repetitions" 2>/dev/null ||
      echo "$type: refused by this program"
  done
done

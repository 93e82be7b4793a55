#!/usr/bin/env bash
# All benchmarks, side by side with the peers where these are installed. Figures are medians; nothing here
# fails on a slow machine. Parts: bench/run.sh registry spawn idle sim
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(registry spawn idle sim)
for part in "${parts[@]}"; do
    echo "== $part ($(date -u +%FT%TZ), $(uname -r), $(nproc) cores)"
    if [ "$part" = sim ]; then
        "${BUILD:-build}/sim/unum-sim" --seeds "${SEEDS:-20}" --first 1
    else
        bash "bench/$part.sh"
    fi
done

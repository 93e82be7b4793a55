#!/usr/bin/env bash
# The simulator tests itself: each line of sim/mutations.txt is compiled in, one at a time, and must be
# found within SEEDS seeds. Prints the seeds it took. ONLY=NAME runs one.
set -uo pipefail
cd "$(dirname "$0")/.."
tools/deps.sh --if-missing
SEEDS=${SEEDS:-200}
folder=build-mutant
[ -f $folder/build.ninja ] || meson setup $folder >/dev/null || exit 1
found=0 missed=()
while read -r name _; do
    case "$name" in '' | '#'*) continue ;; esac
    [ -z "${ONLY:-}" ] || [ "$ONLY" = "$name" ] || continue
    meson configure $folder -Dmutation="$name" >/dev/null || exit 1
    if ! ninja -C $folder sim/unum-sim >$folder/build.log 2>&1; then
        tail -30 $folder/build.log
        missed+=("$name (does not build)")
        continue
    fi
    output=$($folder/sim/unum-sim --seeds "$SEEDS" --first 1 --quiet 2>&1)
    if [ $? = 0 ]; then
        missed+=("$name")
        printf '%-34s NOT FOUND in %s seeds\n' "$name" "$SEEDS"
    else
        found=$((found + 1))
        printf '%-34s %s\n' "$name" "$(grep -m1 -E '^FAILED' <<<"$output" || tail -1 <<<"$output")"
    fi
done <sim/mutations.txt
meson configure $folder -Dmutation=none >/dev/null
echo "mutations: $found found, ${#missed[@]} missed${missed[0]:+: ${missed[*]}}"
[ ${#missed[@]} = 0 ] && [ $found -gt 0 ]

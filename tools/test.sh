#!/usr/bin/env bash
# (pytest is that of Debian, whatever python3 stands first in PATH.)
# All tests that `make test` promises: unit tests, the simulator's seeds and scenarios, end to end.
# Prints what ran and, as its last line, "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
SEEDS=${SEEDS:-50}
passed=0 failed=0 skipped=0

echo "== unit tests"
ninja -C "$BUILD" >"$BUILD/build.log" 2>&1 || { tail -40 "$BUILD/build.log"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
meson test -C "$BUILD" --no-rebuild --num-processes "$(nproc)" --timeout-multiplier 3 >"$BUILD/unit.log" 2>&1
unit_status=$?
grep -E '^ *[0-9]+/[0-9]+ ' "$BUILD/unit.log" || tail -20 "$BUILD/unit.log"
log="$BUILD/meson-logs/testlog.txt"
# A test that Meson left out has no line there: say so, with the reason.
if ! /usr/bin/python3 -c 'import pytest' 2>/dev/null && ! command -v pytest-3 pytest >/dev/null; then
    echo "skipped: supervise_e2e, cli and end to end: pytest is missing (Debian: python3-pytest)"
    skipped=$((skipped + 1))
fi
count() { grep -cE "$1" "$2" 2>/dev/null || true; }
passed=$((passed + $(count '^\[       OK \]' "$log")))
skipped=$((skipped + $(count '^\[  SKIPPED \] [a-z]' "$log")))
# Those of pytest among them (supervise_e2e, cli): "37 passed, 1 skipped in 23 s", and why.
sum() { grep -oE "^(=+ )?([0-9]+ [a-z]+, )*[0-9]+ $1.* in [0-9.]+s" "$log" | grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'; }
passed=$((passed + $(sum passed)))
skipped=$((skipped + $(sum skipped)))
grep -E '^(SKIPPED \[|skipped: )' "$log" || true
cases_failed=$(grep -oE '^\[  FAILED  \] [0-9]+ test' "$log" | awk '{ n += $4 } END { print n + 0 }')
programs_failed=$(grep -cE '^ *[0-9]+/[0-9]+ .*(FAIL|TIMEOUT|ERROR)' "$BUILD/unit.log" || true)
cases_failed=$((cases_failed + $(sum failed)))
if [ "$unit_status" != 0 ] && [ "$cases_failed" = 0 ]; then cases_failed=$((programs_failed > 0 ? programs_failed : 1)); fi
failed=$((failed + cases_failed))
if [ "$unit_status" != 0 ]; then grep -B2 -A12 -E '^\[  FAILED|Assertion|ERROR: |runtime error' "$log" | head -120; fi

if [ -x "$BUILD/sim/unum-sim" ]; then
    echo "== simulation: $SEEDS seeds"
    if "$BUILD/sim/unum-sim" --seeds "$SEEDS" --first 1; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi

if ls test/e2e/*_test.py >/dev/null 2>&1; then
    echo "== end to end"
    UNUM_BUILD=$(realpath "$BUILD") /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider --color=no -o 'python_files=*_test.py' \
        -o "addopts=" test/e2e >"$BUILD/e2e.log" 2>&1
    e2e_status=$?
    cat "$BUILD/e2e.log"
    summary=$(tail -1 "$BUILD/e2e.log")
    number() { grep -oE "[0-9]+ $1" <<<"$summary" | grep -oE '^[0-9]+' || echo 0; }
    passed=$((passed + $(number passed)))
    e2e_failed=$(($(number failed) + $(number error)))
    if [ "$e2e_status" != 0 ] && [ "$e2e_failed" = 0 ]; then e2e_failed=1; fi
    failed=$((failed + e2e_failed))
    skipped=$((skipped + $(number skipped)))
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

#!/usr/bin/env bash
# What the compiler and the linker were asked for is in the programs that are installed: position
# independence, read-only relocations, no executable stack, stack protectors, fortified calls; no path of
# the build in a run path; and static where ARCHITECTURE.md promises it. Reads a build folder.
#
# Control flow enforcement is compiled in (-fcf-protection=full), but Debian 12's start files are not
# marked for it, so the linker leaves the mark out: what is looked at is the code itself.
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
failures=0

fail() {
    echo "hardening: $1: $2" >&2
    failures=$((failures + 1))
}

# check PROGRAM STATIC(yes|no)
check() {
    local program=$build/src/$1 static=$2 head dynamic symbols
    [ -x "$program" ] || { fail "$program" "is missing"; return; }
    head=$(readelf -hlW "$program")
    dynamic=$(readelf -dW "$program")
    symbols=$(readelf -sW "$program")
    grep -qE 'Type: +DYN' <<<"$head" || fail "$program" "is not position independent"
    grep -q 'GNU_RELRO' <<<"$head" || fail "$program" "its relocations stay writable (no RELRO)"
    grep -qE 'GNU_STACK .* RW ' <<<"$head" || fail "$program" "its stack is executable"
    grep -qE 'LOAD .* RWE ' <<<"$head" && fail "$program" "a segment is writable and executable"
    grep -qE 'FLAGS.*(BIND_NOW|NOW)' <<<"$dynamic" || fail "$program" "its symbols are bound lazily (no BIND_NOW)"
    grep -qE 'RPATH|RUNPATH' <<<"$dynamic" && fail "$program" "has a run path"
    grep -q '__stack_chk_fail' <<<"$symbols" || fail "$program" "has no stack protectors"
    grep -qE '__[a-z]+_chk\b' <<<"$symbols" || fail "$program" "has no fortified calls"
    if [ "$static" = yes ]; then
        grep -q 'INTERP' <<<"$head" && fail "$program" "is not static"
    fi
    # The address of main begins with an instruction that a jump may land on.
    if grep -q 'X86-64' <<<"$head"; then
        local main
        main=$(awk '$8 == "main" && $4 == "FUNC" { print $2; exit }' <<<"$symbols")
        [ -n "$main" ] && objdump -d --start-address="0x$main" --stop-address=$((0x$main + 4)) "$program" |
            grep -q endbr64 || fail "$program" "main has no landing mark (control flow protection)"
    fi
}

check node/unumd no
check cli/unum no
check supervise/unum-log no
check supervise/unum-init yes

# The stub is one page without a C library and at a fixed address on purpose (src/supervise/stub.c):
# there is nothing to bind and nothing to relocate, so only this is asked of it.
stub=$build/src/supervise/unum-stub
if [ -x "$stub" ]; then
    head=$(readelf -hlW "$stub")
    grep -qE 'INTERP|DYNAMIC' <<<"$head" && fail "$stub" "is not static"
    grep -qE 'GNU_STACK .* RW ' <<<"$head" || fail "$stub" "its stack is executable"
    grep -qE 'LOAD .* (RWE|RW ) ' <<<"$head" && fail "$stub" "has a writable segment"
    [ "$(stat -c %s "$stub")" -le 8192 ] || fail "$stub" "is larger than 8 KiB"
else
    fail "$stub" "is missing"
fi

echo "hardening: 5 programs, $failures failures"
[ $failures = 0 ]

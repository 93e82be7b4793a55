#!/usr/bin/env bash
# What must be clean before a change lands: layers, format, lengths and marks, system calls, the
# hardening of the programs, clang-tidy, all unit tests and a number of seeds under ASan + UBSan with
# both compilers, every fuzzer for FUZZ_SECONDS.
# Parts can be named: tools/check.sh layers format names symbols hardening tidy sanitize fuzz
set -uo pipefail
cd "$(dirname "$0")/.."
tools/deps.sh --if-missing
FUZZ_SECONDS=${FUZZ_SECONDS:-10}
FUZZ_COVERED_MIN=50 # edges; the smallest decoder reaches more within a second
SEEDS=${SEEDS:-25}
export UNUM_TEST_SCOPE=full # `make test` runs fewer seeds of the longest tests
failures=()
sources() { git ls-files 'src/*.c' 'src/*.h' 'sim/*.c' 'sim/*.h' 'bench/*.c' 'test/*.c' 'test/*.h'; }

check_layers() { python3 tools/check_layers.py; }

check_format() { sources | xargs clang-format --dry-run --Werror; }

check_names() { python3 tools/check_names.py; }

built() {
    [ -f build/build.ninja ] || meson setup build >/dev/null || return 1
    ninja -C build >build/build.log 2>&1 || { tail -30 build/build.log; return 1; }
}

check_symbols() { built && python3 tools/check_symbols.py build; }

check_hardening() { built && tools/check_hardening.sh build; }

check_tidy() {
    # clang's own view of the flags: a build folder of clang.
    [ -f build-tidy/build.ninja ] || CC=clang CXX=clang++ meson setup build-tidy >/dev/null || return 1
    ninja -C build-tidy >/dev/null || return 1
    sources | grep -E '^(src|sim)/.*\.c$' | grep -v '_fuzz\.c$' | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build-tidy 2>/dev/null |
        tee build-tidy/tidy.log
    ! grep -qE '(warning|error):' build-tidy/tidy.log
}

check_sanitize() {
    local status=0
    for compiler in gcc clang; do
        local folder=build-sanitize-$compiler
        local cxx=g++; [ $compiler = clang ] && cxx=clang++
        [ -f $folder/build.ninja ] || CC=$compiler CXX=$cxx meson setup $folder -Db_sanitize=address,undefined \
            -Db_lundef=false -Doptimization=1 >/dev/null || return 1
        ninja -C $folder >$folder/build.log 2>&1 || { tail -30 $folder/build.log; return 1; }
        export ASAN_OPTIONS=detect_stack_use_after_return=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        meson test -C $folder --no-rebuild --timeout-multiplier 10 --print-errorlogs 2>&1 | grep -vE ' OK +[0-9.]+s' || true
        [ "${PIPESTATUS[0]}" = 0 ] || status=1
        if [ -x $folder/sim/unum-sim ]; then $folder/sim/unum-sim --seeds "$SEEDS" --first 1 || status=1; fi
    done
    return $status
}

check_fuzz() {
    local folder=build-fuzz status=0
    [ -f $folder/build.ninja ] || CC=clang CXX=clang++ meson setup $folder -Dfuzzers=true -Db_sanitize=address,undefined \
        -Db_lundef=false -Doptimization=1 >/dev/null || return 1
    # Only the fuzzers: an ordinary program of this folder has no fuzzer to be linked with.
    local targets
    targets=$(ninja -C $folder -t targets all | sed -nE 's/^([^ ]*_fuzz): .*_LINKER.*$/\1/p' | sort)
    [ -n "$targets" ] || { echo "fuzz: there is no fuzzer"; return 1; }
    # shellcheck disable=SC2086
    ninja -C $folder $targets >$folder/build.log 2>&1 || { tail -30 $folder/build.log; return 1; }
    for name in $targets; do
        local target=$folder/$name corpus covered
        name=$(basename "$name")
        corpus=$folder/corpus/$name
        mkdir -p "$corpus"
        local seeds=()
        [ -d "fuzz/corpus/$name" ] && seeds=("fuzz/corpus/$name")
        if "$target" -max_total_time="$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix=$folder/ "$corpus" ${seeds[0]:+"${seeds[@]}"} >"$folder/$name.log" 2>&1; then
            # A fuzzer that does not get past the first test of its input proves nothing.
            covered=$(grep -oE 'cov: [0-9]+' "$folder/$name.log" | tail -1 | grep -oE '[0-9]+' || echo 0)
            echo "fuzz: $name $(grep -oE 'number_of_executed_units: [0-9]+' "$folder/$name.log")" \
                "cov: $covered"
            [ "$covered" -ge "$FUZZ_COVERED_MIN" ] || { echo "fuzz: $name covers too little"; status=1; }
        else
            echo "fuzz: $name FAILED"; tail -30 "$folder/$name.log"; status=1
        fi
    done
    return $status
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(layers format names symbols hardening tidy sanitize fuzz)
for part in "${parts[@]}"; do
    echo "== $part"
    "check_$part" || failures+=("$part")
done
if [ ${#failures[@]} -gt 0 ]; then
    echo "check: failed: ${failures[*]}"
    exit 1
fi
echo "check: clean"

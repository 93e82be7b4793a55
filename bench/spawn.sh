#!/bin/bash
# Starting, reaping and restarting isolated tasks, beside bare programs and crun, interleaved in one
# run. PEERS: the folder of the peers' benchmarks (spawn.c). BUILD: the build folder.
# N starts per round, ROUNDS rounds; medians of the rounds' medians, and ratios.
set -e
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build} N=${N:-150} ROUNDS=${ROUNDS:-5} PEERS=${PEERS:-../shared/bench} TASKS=${TASKS:-1000}
skip() { echo "skipped: spawn: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "needs root"
[ -f "$PEERS/spawn.c" ] || skip "no peers' spawn.c in PEERS=$PEERS"
command -v busybox >/dev/null || skip "busybox-static is not installed"
CG=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
[ -n "$CG" ] || skip "no cgroup v2"
W=$(mktemp -d /srv/unum-bench.XXXXXX); INIT=
cleanup() { if [ -n "$INIT" ]; then kill "$INIT" && wait "$INIT" || true; fi 2>/dev/null
            rmdir "$CG/unum-bench.$$" 2>/dev/null || true; rm -rf --one-file-system "$W"; }
trap cleanup EXIT
chmod 755 "$W"; mkdir -p "$W/dir" "$W/root/bin" "$W/root/proc" "$CG/unum-bench.$$"
${CC:-cc} -O2 -w -o "$W/spawn" "$PEERS/spawn.c"
cp "$(command -v busybox)" "$W/root/bin/busybox"; ln -s busybox "$W/root/bin/true"
chmod 755 "$W/root" "$W/root/bin" "$W/root/proc" "$W/root/bin/busybox"
cp "$BUILD/bench/restart_bench" "$W/"
printf '.globl _start\n_start: mov $34,%%eax; syscall; jmp _start\n' > "$W/pause.s"
${CC:-cc} -nostdlib -static -o "$W/pause" "$W/pause.s" 2>/dev/null || cp "$W/root/bin/busybox" "$W/pause"
"$BUILD/src/supervise/unum-init" --dir "$W/dir" 2>"$W/init.log" & INIT=$!
for _ in $(seq 200); do [ -S "$W/dir/supervise.sock" ] && break; sleep 0.01; done
# key=value of a line
field() { tr ' ' '\n' | sed -n "s/^$1=//p"; }
median() { printf '%s\n' "$@" | sort -g | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
declare -A T
one() { local name=$1; shift; T[$name]+=" $("$@" | tail -1 | field p50_us)"; }
BARE=("$W/root/bin/busybox" true)
for _ in $(seq "$ROUNDS"); do
  one bare_net "$W/spawn" iso "$N" /bin/true "$CG/unum-bench.$$" "$W/root"
  one stub_net "$BUILD/bench/stub_bare" net "$N" /bin/true "$CG/unum-bench.$$" "$W/root"
  one unum_net "$BUILD/bench/spawn_bench" "$W/dir" "$N" net "${BARE[@]}"
  one bare_nonet "$W/spawn" isonn "$N" /bin/true "$CG/unum-bench.$$" "$W/root"
  one stub_nonet "$BUILD/bench/stub_bare" nonet "$N" /bin/true "$CG/unum-bench.$$" "$W/root"
  one stubroot_nonet "$BUILD/bench/stub_bare" nonetroot "$N" /bin/true "$CG/unum-bench.$$" "$W/root"
  one unum_nonet "$BUILD/bench/spawn_bench" "$W/dir" "$N" nonet "${BARE[@]}"
  one restart "$W/restart_bench" "$W/dir" "$((N / 5 + 1))" "unum-bench-$$"
done
for name in bare_net stub_net unum_net bare_nonet stub_nonet stubroot_nonet unum_nonet restart; do
  printf 'RESULT %-28s %8.0f us\n' "spawn.$name" "$(median ${T[$name]})"; done
ratio() { awk -v n="$1" -v a="$(median ${T[$2]})" -v b="$(median ${T[$3]})" -v w="$4" 'BEGIN {printf "RATIO  %-44s %.2f (wanted %s)\n", n, a/b, w}'; }
ratio "unum / bare, own network" unum_net bare_net "<= 1.50"
ratio "unum / bare, host's network" unum_nonet bare_nonet "<= 1.50"
ratio "unum / bare with a stub, own network" unum_net stub_net "<= 1.15"
ratio "unum / bare with a stub, host's network" unum_nonet stub_nonet "<= 1.15"
if command -v crun >/dev/null && command -v python3 >/dev/null; then
  crun_once() { local i; for i in $(seq 30); do crun --root "$W/crun" --cgroup-manager=disabled run -b "$W/bundle" "ub$$-$i" </dev/null || return 1; done; }
  mkdir -p "$W/bundle"; mv "$W/root" "$W/bundle/rootfs"; mkdir -p "$W/bundle/rootfs"/{dev,sys,tmp,etc}
  (cd "$W/bundle" && crun spec && python3 -c 'import json; c=json.load(open("config.json")); c["process"]["terminal"]=False; c["process"]["args"]=["/bin/true"]; c["process"].pop("rlimits",None); c["linux"].pop("resources",None); json.dump(c,open("config.json","w"))')
  t0=$(date +%s%N)
  export -f crun_once; export W
  # crun refuses a hybrid tree of cgroups: it gets a pure v2 one in a mount namespace of its own.
  if unshare -m --propagation private bash -c 'mount -t cgroup2 none /sys/fs/cgroup; crun_once' >"$W/crun.log" 2>&1; then
    T[crun]=$(( ($(date +%s%N) - t0) / 30000 ))
    printf 'RESULT %-28s %8.0f us\n' spawn.crun "${T[crun]}"
    ratio "crun / unum, own network" crun unum_net ">= 3.00"
  else echo "skipped: crun: $(head -1 "$W/crun.log")"; fi
else echo "skipped: crun: it or python3 is not installed"; fi
memory() { echo "RESULT spawn.$1 $("$BUILD/bench/spawn_bench" "$W/dir" "$TASKS" "$2" "$W/pause")"; }
memory sleeping sleep
echo "RESULT spawn.init_rss_kb $(awk '/VmRSS/ {print $2}' "/proc/$(cat "/proc/$INIT/task/$INIT/children" | cut -d' ' -f1)/status")"

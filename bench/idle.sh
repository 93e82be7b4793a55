#!/usr/bin/env bash
# What a computer of one machine costs when nothing happens, how fast it starts, and what sleeping tasks
# cost the whole machine. Root, for isolated tasks. TASKS=3000.
. "$(dirname "$0")/lib.sh"
TASKS=${TASKS:-3000}
IDLE_SECONDS=${IDLE_SECONDS:-20}
unum() { "$BUILD/src/cli/unum" "$1" --dir "$WORK/computer" "${@:2}"; }
dirty_kb() { awk '/^Private_Dirty/ { sum += $2 } END { print sum }' "/proc/$1/smaps_rollup"; }
named() { # PID of the process NAME below the computer's outer process
    local outer
    outer=$(awk '{ print $1 }' "$WORK/computer/up.pid")
    python3 - "$outer" "$1" <<'P'
import pathlib, sys
outer, name = int(sys.argv[1]), sys.argv[2]
parents = {}
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        text = (folder / "stat").read_text()
    except OSError:
        continue
    parents[int(folder.name)] = (int(text.rsplit(")", 1)[1].split()[1]), text.split("(", 1)[1].rsplit(")", 1)[0])
for pid, (parent, comm) in sorted(parents.items(), reverse=True):
    chain = pid
    while chain in parents and chain != outer:
        chain = parents[chain][0]
    if chain == outer and comm == name:
        print(pid)
        break
P
}
available_kb() { sync; echo 3 >/proc/sys/vm/drop_caches 2>/dev/null; awk '/^MemAvailable/ { print $2 }' /proc/meminfo; }

port=$(free_port)
mkdir "$WORK/plain"
"$BUILD/src/node/unumd" --init "$WORK/plain" --address "127.0.0.1:$port" || exit 1
times=()
for _ in $(seq "$ROUNDS"); do
    times+=("$(python3 - "$BUILD/src/node/unumd" "$WORK/plain" "$BUILD/bench/registry_load" "127.0.0.1:$port" <<'P'
import socket, subprocess, sys, time
daemon, folder, load, address = sys.argv[1:]
host, port = address.split(":")
began = time.monotonic()
process = subprocess.Popen([daemon, "--dir", folder, "--plain", "--no-supervisor"], stderr=subprocess.DEVNULL)
while True:
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        break
    except OSError:
        time.sleep(0.001)
connected = time.monotonic()
subprocess.run([load, "--api", "unum", "--op", "get", "--address", address, "--count", "1"], check=True, stdout=subprocess.DEVNULL)
served = time.monotonic()
process.terminate()
process.wait()
# The generator waits 30 ms for SETTINGS; what counts is the connect.
print(f"{(connected - began) * 1000:.1f}")
P
)")
done
echo "exec to the first accepted connection of unumd: $(median "${times[@]}") ms ($ROUNDS rounds)"
verdict "exec to first served request, ms" "$(median "${times[@]}")" "<=" 100

unum up --background --address "127.0.0.1:$(free_port)" >/dev/null || exit 1
trap 'unum down >/dev/null 2>&1; cleanup' EXIT
sleep 2
unumd=$(named unumd) init=$(named unum-init)
before=$(cpu_us "$unumd") init_before=$(cpu_us "$init")
sleep "$IDLE_SECONDS"
after=$(cpu_us "$unumd") init_after=$(cpu_us "$init")
echo "idle for $IDLE_SECONDS s: unumd $(dirty_kb "$unumd") KB private dirty, unum-init $(dirty_kb "$init") KB"
verdict "unumd private dirty, KB" "$(dirty_kb "$unumd")" "<=" 10240
verdict "unum-init private dirty, KB" "$(dirty_kb "$init")" "<=" 2048
verdict "unumd idle CPU, % of a core" "$(awk -v d=$((after - before)) -v s="$IDLE_SECONDS" 'BEGIN { printf "%.3f", d / s / 1e4 }')" "<=" 0.5
echo "unum-init idle CPU: $(awk -v d=$((init_after - init_before)) -v s="$IDLE_SECONDS" 'BEGIN { printf "%.3f", d / s / 1e4 }') % of a core"

sleepers() { # NAME COUNT [FLAGS]: memory of the whole machine per task, KB
    local name=$1 count=$2 began free_before free_after
    shift 2
    free_before=$(available_kb)
    began=$(date +%s%N)
    unum run --name "$name" --count "$count" --cpu 0 --memory 1Mi "$@" -- "$BUILD/bench/sleeper" >/dev/null || return 1
    for _ in $(seq 600); do
        running=$(unum ps "$name" -o json | python3 -c 'import json, sys; print(sum(t["state"] == "running" for t in json.load(sys.stdin).get("tasks", [])))')
        [ "$running" = "$count" ] && break
        sleep 0.2
    done
    echo "$running of $count sleeping tasks run after $((($(date +%s%N) - began) / 1000000)) ms"
    free_after=$(available_kb)
    PER_TASK=$(((free_before - free_after) / count))
}
case "$BUILD" in /tmp/*)
    echo "skipped: sleeping tasks: they have a /tmp of their own, and the program of this build lies below /tmp"
    exit 0 ;;
esac
sleepers sleep "$TASKS"
verdict "a sleeping supervised task, KB of the machine" "$PER_TASK" "<=" 130
times=()
for _ in $(seq "$ROUNDS"); do
    began=$(date +%s%N)
    unum ps >/dev/null
    times+=($((($(date +%s%N) - began) / 1000000)))
done
verdict "unum ps with $TASKS tasks, ms" "$(median "${times[@]}")" "<=" 300
unum stop sleep >/dev/null
for _ in $(seq 300); do [ "$(unum ps sleep 2>/dev/null | grep -c running)" = 0 ] && break; sleep 0.2; done
sleepers sleepnet $((TASKS / 6)) --net private
verdict "the same with its own network namespace, KB" "$PER_TASK" "<=" 330

#!/usr/bin/env bash
# Durable puts and linearizable gets of one machine beside one etcd member, interleaved; one client beside
# the machine's floor (one fdatasync of a zero-filled file + one pinned TCP echo). Without TLS on
# both sides, the same generator for both.
. "$(dirname "$0")/lib.sh"
SECONDS_EACH=${SECONDS_EACH:-3}
VALUE=${VALUE:-256}
load() { "$BUILD/bench/registry_load" --seconds "$SECONDS_EACH" --value-bytes "$VALUE" "$@"; }

port=$(free_port)
mkdir "$WORK/computer"
"$BUILD/src/node/unumd" --init "$WORK/computer" --address "127.0.0.1:$port" || exit 1
start unumd "$BUILD/src/node/unumd" --dir "$WORK/computer" --plain --no-supervisor
unumd=$PID
address[0]=127.0.0.1:$port
names=(unum)
pids=("$unumd")
if command -v etcd >/dev/null; then
    client=$(free_port) peer=$(free_port)
    start etcd etcd --data-dir "$WORK/etcd" --listen-client-urls "http://127.0.0.1:$client" \
        --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer" \
        --initial-advertise-peer-urls "http://127.0.0.1:$peer" --initial-cluster "default=http://127.0.0.1:$peer" \
        --quota-backend-bytes 4294967296 --log-level error
    names+=(etcd)
    address[1]=127.0.0.1:$client
    pids+=("$PID")
else
    echo "etcd is not installed (Debian package etcd-server): the comparison with it is left out"
fi
for i in "${!names[@]}"; do
    for _ in $(seq 200); do
        "$BUILD/bench/registry_load" --api "${names[$i]}" --op put --address "${address[$i]}" --count 1 >/dev/null 2>&1 && break
        sleep 0.05
    done
    "$BUILD/bench/registry_load" --api "${names[$i]}" --op put --address "${address[$i]}" --clients 64 --connections 8 --count 20000 --seconds 20 >/dev/null
done
echo "parameters: value $VALUE bytes, 10000 keys, $SECONDS_EACH s a run, $ROUNDS rounds interleaved, $(nproc) cores, no TLS on either side"

declare -A rates p50s cpus
run() { # NAME-OF-TEST OP CLIENTS CONNECTIONS [PREFIX COMMAND]
    local test=$1 op=$2 clients=$3 connections=$4
    for _ in $(seq "$ROUNDS"); do
        for i in "${!names[@]}"; do
            local name=${names[$i]} before after line
            before=$(cpu_us "${pids[$i]}")
            line=$(load --api "$name" --op "$op" --address "${address[$i]}" --clients "$clients" --connections "$connections")
            after=$(cpu_us "${pids[$i]}")
            rates[$name.$test]+=" $(field rate "$line")"
            p50s[$name.$test]+=" $(field p50_us "$line")"
            cpus[$name.$test]+=" $(ratio $((after - before)) "$(field n "$line")")"
        done
    done
    for name in "${names[@]}"; do
        printf '%-6s %-12s %10s /s   p50 %8s us   server cpu %6s us/op\n' "$name" "$test" "$(median ${rates[$name.$test]})" \
            "$(median ${p50s[$name.$test]})" "$(median ${cpus[$name.$test]})"
    done
}
run put.64 put 64 16
run put.256 put 256 16
run get.64 get 64 16

# One client, pinned: server on core 0, client on core 1, the floor measured between the rounds.
taskset -acp 0 "$unumd" >/dev/null
floors=() p50=()
for _ in $(seq "$ROUNDS"); do
    floors+=("$(field sum_us "$("$BUILD/bench/floor" "$WORK" 1000 0 1)")")
    p50+=("$(field p50_us "$(taskset -c 1 "$BUILD/bench/registry_load" --api unum --op put --address "${address[0]}" --seconds 2 --value-bytes "$VALUE")")")
done
echo "one client, pinned: p50 $(median "${p50[@]}") us; floor (fdatasync + echo) $(median "${floors[@]}") us"
verdict "sequential put p50 / floor" "$(ratio "$(median "${p50[@]}")" "$(median "${floors[@]}")")" "<=" 1.20
if [ ${#names[@]} = 2 ]; then
    verdict "puts/s of 64 clients, unum / etcd" "$(ratio "$(median ${rates[unum.put.64]})" "$(median ${rates[etcd.put.64]})")" ">=" 3.00
    verdict "puts/s of 256 clients, unum / etcd" "$(ratio "$(median ${rates[unum.put.256]})" "$(median ${rates[etcd.put.256]})")" ">=" 3.00
    verdict "gets/s of 64 clients, unum / etcd" "$(ratio "$(median ${rates[unum.get.64]})" "$(median ${rates[etcd.get.64]})")" ">=" 5.00
fi

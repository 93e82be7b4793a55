"""The registry by the command line: what was acknowledged stays, and transactions, leases and watches mean
what they say."""
import base64
import json
import os
import signal
import subprocess
import threading
import time

from conftest import UNUM, alive, wait_until


def value_of(computer, key):
    items = computer.json("get", key).get("items", [])
    return base64.b64decode(items[0].get("value", "")).decode() if items else None


def test_a_value_put_is_got_and_deleted(shared_computer):
    shared_computer.unum("put", "a/one", "first")
    assert shared_computer.unum("get", "a/one").stdout.strip().endswith("first")
    shared_computer.unum("del", "a/one")
    missing = shared_computer.unum("get", "a/one", check=False)
    assert missing.returncode == 1


def test_a_past_revision_is_readable(shared_computer):
    first = int(shared_computer.json("put", "past/key", "old")["revision"])
    shared_computer.unum("put", "past/key", "new")
    reply = shared_computer.json("get", "past/key", "--revision", str(first))
    assert base64.b64decode(reply["items"][0]["value"]) == b"old"


def test_a_transaction_compares_and_swaps(shared_computer):
    shared_computer.unum("put", "txn/key", "1")
    good = shared_computer.json("txn", "--if", "txn/key = 1", "--then", "put txn/key 2", "--else", "get txn/key")
    assert good["succeeded"] is True
    bad = shared_computer.json("txn", "--if", "txn/key = 1", "--then", "put txn/key 3")
    assert not bad.get("succeeded")
    assert value_of(shared_computer, "txn/key") == "2"


def test_a_lease_ends_and_takes_its_keys(shared_computer):
    lease = shared_computer.json("lease", "grant", "1s")["lease"]
    shared_computer.unum("put", "leased/key", "x", "--lease", str(lease))
    assert value_of(shared_computer, "leased/key") == "x"
    began = time.monotonic()
    wait_until(lambda: value_of(shared_computer, "leased/key") is None, seconds=5)
    assert time.monotonic() - began < 4


def test_a_watch_tells_every_change_in_order_from_a_past_revision(shared_computer):
    first = int(shared_computer.json("put", "watched/a", "0")["revision"])
    for number in range(1, 6):
        shared_computer.unum("put", "watched/a", str(number))
    watch = subprocess.Popen([str(UNUM), "watch", "--prefix", "watched/", "--revision", str(first), "-o", "json",
                              "--dir", str(shared_computer.folder)], stdout=subprocess.PIPE, text=True)
    try:
        seen = []
        reader = threading.Thread(target=lambda: [seen.extend(values(line)) for line in watch.stdout], daemon=True)
        reader.start()
        wait_until(lambda: len(seen) >= 6)
        shared_computer.unum("put", "watched/a", "6")
        wait_until(lambda: len(seen) >= 7)
        assert seen == [str(number) for number in range(7)]
    finally:
        watch.send_signal(signal.SIGINT)
        watch.wait(10)


def values(line):
    return [base64.b64decode(event["item"].get("value", "")).decode() for event in json.loads(line).get("events", [])]


def test_acknowledged_writes_survive_kill_9_of_the_daemon_and_of_everything(computer):
    for number in range(50):
        computer.unum("put", f"kept/{number}", str(number))
    daemon = computer.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: computer.daemon_pid() not in (0, daemon))
    wait_until(lambda: computer.unum("status", check=False).returncode == 0)
    assert len(computer.json("get", "--prefix", "kept/")["items"]) == 50
    computer.pull_the_plug()
    computer.up()
    items = computer.json("get", "--prefix", "kept/")["items"]
    assert {base64.b64decode(i["value"]).decode() for i in items} == {str(n) for n in range(50)}
    assert alive(computer.outer_pid())

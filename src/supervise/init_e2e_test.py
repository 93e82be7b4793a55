"""unum-init keeps its promises with real processes.

Each test starts a real unum-init on a fresh folder and speaks its protocol. Waiting is polling with
a deadline. What this machine can't do is skipped, with the reason printed.
"""

import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import supervise_client as s  # noqa: E402

PROGRAMS = os.environ.get("SUPERVISE_PROGRAMS", "build/src/supervise")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: private id ranges and cgroups")


class Init:
    def __init__(self, folder, unumd=None, arguments=()):
        self.folder = folder
        command = [os.path.join(PROGRAMS, "unum-init"), "--dir", folder]
        if unumd:
            command += ["--unumd", unumd, "--", *arguments]
        self.process = subprocess.Popen(command)
        self.client = s.Client(folder) if not unumd else None

    def inner(self):
        """Host pid of PID 1 of the namespace."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return int(file.read().split()[0])

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise


@pytest.fixture
def folder():
    path = tempfile.mkdtemp(prefix="unum-init-test-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def init(folder):
    started = Init(folder)
    yield started
    started.end()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(what, timeout=10):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "deadline"
        time.sleep(0.005)


def log_lines(folder, name="task-0", job="test"):
    """(stream, incarnation, text) of whole lines, read as docs/formats/log.md has it."""
    path = os.path.join(folder, "logs", job, name)
    lines, parts = [], {}
    if not os.path.isdir(path):
        return lines
    for segment in sorted(os.listdir(path)):
        with open(os.path.join(path, segment), "rb") as file:
            raw = file.read()
        at = 32
        while at + 24 <= len(raw):
            size, flags, mark = raw[at + 4] | raw[at + 5] << 8, raw[at + 6], raw[at + 7]
            if mark != 0xa7 or at + 24 + size > len(raw):
                break
            incarnation = int.from_bytes(raw[at + 16:at + 24], "little")
            body = parts.pop((flags & 1, incarnation), b"") + raw[at + 24:at + 24 + size]
            if flags & 2:
                parts[flags & 1, incarnation] = body
            else:
                lines.append((flags & 1, incarnation, body.decode(errors="replace")))
            at += 24 + size
    return lines


def host_pid(init, task):
    return init.client.wait(task, lambda state: state["host_pid"] != 0)["host_pid"]


def test_a_killed_program_is_started_again_as_a_new_incarnation(init):
    task = init.client.start(["/bin/sleep", "1000"])
    first = host_pid(init, task)
    os.kill(first, signal.SIGKILL)
    state = init.client.wait(task, lambda state: state["incarnation"] == 2 and state["up"] == 1)
    assert "ended by signal 9 (SIGKILL)" in state["reason"]
    assert state["restarts"] == 1
    assert not alive(first)


def test_a_killed_program_takes_its_whole_tree_along(init):
    script = "for i in 1 2 3; do (sleep 1000 & sleep 1000) & done; (setsid sleep 1000 &); wait"
    task = init.client.start(["/bin/sh", "-c", script], restart=s.TEMPORARY)
    top = host_pid(init, task)

    def tree():
        ids = {open(f"/proc/{top}/status").read().split("Uid:")[1].split()[0]}
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and uid_of(pid) in ids]

    def uid_of(pid):
        try:
            return open(f"/proc/{pid}/status").read().split("Uid:")[1].split()[0]
        except (OSError, IndexError):
            return None

    wait_for(lambda: len(tree()) >= 9)
    pids = tree()
    os.kill(top, signal.SIGKILL)
    init.client.wait_state(task, "failed")
    assert [pid for pid in pids if alive(pid)] == []


def test_a_crash_loop_backs_off_and_is_then_held_with_its_reason(init):
    task = init.client.start(["/bin/sh", "-c", "exit 3"], restarts_limit=3, backoff_base_ms=5,
                             backoff_cap_ms=20)
    state = init.client.wait_state(task, "held")
    assert state["restarts"] == 3 and state["exit_code"] == 3
    assert "restarted 3 times in 60.000 s" in state["reason"]
    assert state["next_start"] > state["ended_at"]


def test_a_missing_program_names_itself_and_the_cause(init):
    task = init.client.start(["/no/such/program"], restart=s.TEMPORARY)
    state = init.client.wait_state(task, "failed")
    assert state["exit_kind"] == s.NOT_STARTED
    assert "cannot execute /no/such/program: No such file or directory" in state["reason"]


def test_a_stop_is_graceful_first(init):
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    task = init.client.start(["/bin/sh", "-c", script])
    wait_for(lambda: (0, 1, "up") in log_lines(init.folder))
    init.client.ask(s.STOP, task)
    state = init.client.wait_state(task, "stopped")
    assert (state["exit_kind"], state["exit_code"]) == (s.EXITED, 0)
    wait_for(lambda: (0, 1, "bye") in log_lines(init.folder))


def test_a_program_that_ignores_the_stop_is_killed_after_the_grace_time(init):
    task = init.client.start(["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
                             stop_grace_ms=300)
    wait_for(lambda: (0, 1, "up") in log_lines(init.folder))
    begun = time.monotonic()
    init.client.ask(s.STOP, task)
    state = init.client.wait_state(task, "stopped")
    assert 0.25 < time.monotonic() - begun < 3
    assert (state["exit_kind"], state["exit_code"]) == (s.SIGNALED, 9)


def test_a_task_is_root_of_its_own_ids_only_and_sees_no_secret():
    # Not below /tmp, which tasks don't share anyway.
    init = Init(tempfile.mkdtemp(prefix="unum-init-test-", dir="/srv"))
    try:
        check_isolation(init)
    finally:
        init.end()
        shutil.rmtree(init.folder)


def check_isolation(init):
    secret = os.path.join(init.folder, "authority.key")
    with open(secret, "w") as file:
        file.write("secret")
    checks = "; ".join([
        "echo uid $(id -u)", "echo host $(hostname)", f"ls {init.folder} | wc -l",
        "touch /usr/x 2>/dev/null || echo usr is read-only", "touch /tmp/x && echo tmp is writable",
        "echo pids $(ls -d /proc/[0-9]* | wc -l)", "cat /etc/shadow 2>/dev/null || echo no shadow",
        "mount -t tmpfs x /mnt 2>/dev/null || echo no mount",
        "grep NoNewPrivs /proc/self/status", "exec sleep 1000"])
    task = init.client.start(["/bin/sh", "-c", checks], name="box")
    wait_for(lambda: any("NoNewPrivs" in line for _, _, line in log_lines(init.folder, "box")))
    lines = [line for _, _, line in log_lines(init.folder, "box")]
    assert lines[:5] == ["uid 0", "host box", "0", "usr is read-only", "tmp is writable"]
    assert int(lines[5].split()[1]) <= 5
    assert lines[6:] == ["no shadow", "no mount", "NoNewPrivs:\t1"]
    with open(f"/proc/{host_pid(init, task)}/status") as file:
        assert int(file.read().split("Uid:")[1].split()[0]) >= 1 << 30


def test_two_tasks_have_disjoint_ids_and_their_own_scratch(init):
    one = init.client.start(["/bin/sh", "-c", "echo mine > /tmp/x; exec sleep 1000"], name="one")
    host_pid(init, one)
    two = init.client.start(["/bin/sh", "-c", "ls /tmp | wc -l; exec sleep 1000"], name="two")
    wait_for(lambda: log_lines(init.folder, "two") == [(0, 1, "0")])
    uids = {open(f"/proc/{host_pid(init, task)}/status").read().split("Uid:")[1].split()[0]
            for task in (one, two)}
    assert len(uids) == 2


def test_two_computers_on_one_host_have_disjoint_ids(init):
    other = Init(tempfile.mkdtemp(prefix="unum-init-test-"))
    try:
        pids = [host_pid(one, one.client.start(["/bin/sleep", "1000"])) for one in (init, other)]
        uids = {open(f"/proc/{pid}/status").read().split("Uid:")[1].split()[0] for pid in pids}
        assert len(uids) == 2
    finally:
        other.end()
        shutil.rmtree(other.folder)


def test_an_own_network_has_only_a_loopback(init):
    script = "grep -c : /proc/net/dev; cat /proc/net/fib_trie | grep -c 127.0.0.1; exec sleep 1000"
    init.client.start(["/bin/sh", "-c", script], flags=s.OWN_NETWORK)
    wait_for(lambda: len(log_lines(init.folder)) == 2)
    lines = [line for _, _, line in log_lines(init.folder)]
    assert lines[0] == "1" and int(lines[1]) >= 1


def test_readiness_is_told_by_sd_notify(init):
    script = ("import os, socket, time; time.sleep(0.2); "
              "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)"
              ".sendto(b'STATUS=warm\\nREADY=1', os.environ['NOTIFY_SOCKET']); time.sleep(1000)")
    task = init.client.start(["/usr/bin/python3", "-c", script], readiness=s.READINESS_NOTIFY)
    assert init.client.wait_state(task, "running")["up"] == 0
    state = init.client.wait_state(task, "ready")
    assert state["up"] == 1 and "warm" in state["reason"]


def test_a_task_that_never_becomes_ready_is_killed(init):
    task = init.client.start(["/bin/sleep", "1000"], readiness=s.READINESS_NOTIFY,
                             start_timeout_ms=200, restart=s.TEMPORARY)
    assert "was not ready in time" in init.client.wait_state(task, "failed")["reason"]


def test_a_probe_decides_readiness_and_a_stale_verdict_is_refused(init):
    task = init.client.start(["/bin/sleep", "1000"], readiness=s.READINESS_PROBE)
    init.client.wait_state(task, "running")
    init.client.ask(s.REPORT_READY, task + b"\1\0\0\0\0\0\0\0\1" + s.text("HTTP 200"))
    init.client.wait_state(task, "ready")
    with pytest.raises(s.Refused, match="incarnation 2 does not run"):
        init.client.ask(s.REPORT_READY, task + b"\2\0\0\0\0\0\0\0\1" + s.text(""))


def output_inside(client, task, script):
    end, mine = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    client.exec(task, ["sh", "-c", script], files=[null, mine, mine])
    os.close(mine)
    os.close(null)
    with os.fdopen(end) as file:
        return file.read()


def test_a_command_runs_inside_the_task(init):
    task = init.client.start(["/bin/sleep", "1000"], name="box")
    init.client.wait_state(task, "running")
    end, mine = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    script = "hostname; cat /proc/1/comm; grep NoNewPrivs /proc/self/status; exit 5"
    number = init.client.exec(task, ["sh", "-c", script], files=[null, mine, mine])
    os.close(mine)
    os.close(null)
    with os.fdopen(end) as file:
        assert file.read() == "box\nunum-stub\nNoNewPrivs:\t1\n"
    init.client.ask(s.EVENTS_SINCE, (0).to_bytes(8, "little"))
    ended = init.client.wait_event(lambda kind, value: kind == s.EXEC_EXITED
                                   and value["exec"] == number)
    assert (ended["exit_kind"], ended["exit_code"]) == (s.EXITED, 5)


def test_a_stopped_task_is_gone_though_a_command_still_ran_inside(init):
    task = init.client.start(["/bin/sleep", "1000"])
    init.client.wait_state(task, "running")
    null = os.open("/dev/null", os.O_RDWR)
    init.client.exec(task, ["sleep", "1000"], files=[null, null, null])
    os.close(null)
    init.client.ask(s.STOP, task)
    init.client.wait_state(task, "stopped")
    init.client.ask(s.DROP, task)
    assert init.client.state(task) is None


def test_a_neglected_zombie_is_recorded_and_its_tree_killed(init):
    script = "import os, time; pid = os.fork() or os._exit(0); time.sleep(1000)"
    task = init.client.start(["/usr/bin/python3", "-c", script], zombie_after_ms=500,
                             restart=s.TEMPORARY)
    state = init.client.wait_state(task, "failed", 15)
    assert "left an exited child unreaped" in state["reason"]
    init.client.ask(s.EVENTS_SINCE, (0).to_bytes(8, "little"))
    found = init.client.wait_event(lambda kind, _: kind == s.ZOMBIE_FOUND)
    assert found["task"] == task and found["parent_name"] == "python3"


def test_orphans_are_reaped_at_once(init):
    script = "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done; sleep 0.5; ps -eo stat; exec sleep 1000"
    init.client.start(["/bin/sh", "-c", script])
    wait_for(lambda: len(log_lines(init.folder)) >= 4)
    assert not any(line.startswith("Z") for _, _, line in log_lines(init.folder))


def test_events_are_numbered_and_a_newcomer_learns_what_it_missed(init):
    task = init.client.start(["/bin/true"], restart=s.TEMPORARY)
    init.client.wait_state(task, "done")
    _, end = init.client.ask(s.EVENTS_SINCE, (0).to_bytes(8, "little"))
    assert end["count"] == 0
    init.client.wait_event(lambda kind, value: value.get("state") == "done")
    numbers = [value["sequence"] for _, value in init.client.events]
    assert numbers == list(range(1, len(numbers) + 1))
    tasks = [init.client.start(["/bin/true"], name=f"t{i}", restart=s.TEMPORARY)
             for i in range(30)]
    for round in range(1, 41):  # until the ring has turned
        for one in tasks:
            init.client.wait(one, lambda row: row["state"] == "done" and row["incarnation"] == round)
            init.client.ask(s.RESTART, one)
    newcomer = s.Client(init.folder)
    _, end = newcomer.ask(s.EVENTS_SINCE, (1).to_bytes(8, "little"))
    first = newcomer.wait_event(lambda kind, value: True)
    assert end["count"] == first["sequence"] - 2 > 0


def test_a_client_that_does_not_read_gets_everything_later(init):
    tasks = [init.client.start(["/bin/sleep", "1000"], name=f"t{i}") for i in range(300)]
    for _ in range(5):
        init.client.send(s.LIST)  # far more answers than the socket holds
    time.sleep(0.3)
    ends = 0
    while ends < 5:
        kind, _, value = init.client.receive(10)
        if kind == s.END:
            assert value["count"] == len(tasks)
            ends += 1
    assert len(init.client.list()) == len(tasks)


def test_a_newer_connection_replaces_the_older(init):
    newer = s.Client(init.folder)
    with pytest.raises((ConnectionError, OSError)):
        init.client.ask(s.LIST)
    assert newer.list() == []


def test_a_bad_request_is_refused_with_a_sentence_and_nothing_is_lost(init):
    task = init.client.start(["/bin/sleep", "1000"])
    with pytest.raises(s.Refused, match="job is not a name"):
        init.client.start(["/bin/true"], job="../x")
    with pytest.raises(s.Refused, match="known already"):
        init.client.start(["/bin/true"], task=task)
    with pytest.raises(s.Refused, match="the body ends inside a field"):
        init.client.ask(s.STOP, b"short")
    with pytest.raises(s.Refused, match="no such task"):
        init.client.ask(s.STOP, os.urandom(16))
    with pytest.raises(s.Refused, match="EXEC comes with 3 descriptors"):
        init.client.exec(task, ["true"])
    with pytest.raises(s.Refused, match="stop it first"):
        init.client.ask(s.DROP, task)
    assert init.client.wait_state(task, "running")["up"] == 1


def test_a_lost_task_lease_kills_and_a_renewal_starts_again(init):
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    task = init.client.start(["/bin/sleep", "1000"], flags=s.EXCLUSIVE,
                             lease_until_ns=now + 400_000_000)
    pid = host_pid(init, task)
    state = init.client.wait_state(task, "held")
    assert not alive(pid) and "task lease" in state["reason"]
    assert state["ended_at"] >= now + 400_000_000
    later = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**12
    init.client.ask(s.RENEW_LEASE, task + later.to_bytes(8, "little"))
    assert init.client.wait_state(task, "running")["incarnation"] == 2


def test_a_reexecution_keeps_every_task_and_the_connection(init):
    tasks = [init.client.start(["/bin/sleep", "1000"], name=f"t{i}") for i in range(20)]
    pids = [host_pid(init, task) for task in tasks]
    before = {row["task"]: row for row in init.client.list()}
    init.client.ask(s.REEXEC, s.text(""))
    init.client.close()
    init.client = s.Client(init.folder)
    assert init.client.welcome["reexecs"] == 1
    after = {row["task"]: row for row in init.client.list()}
    assert after == before
    assert all(alive(pid) for pid in pids)
    os.kill(pids[0], signal.SIGKILL)  # and it still restarts them
    init.client.wait(tasks[0], lambda state: state["incarnation"] == 2 and state["up"] == 1)
    init.process.send_signal(signal.SIGUSR2)
    wait_for(lambda: s.Client(init.folder).welcome["reexecs"] == 2)
    init.client = s.Client(init.folder)
    assert all(alive(pid) for pid in pids[1:])


def test_a_state_tells_what_the_task_holds(init):
    held = dict(cpu_milli=250, memory_bytes=1 << 20, ports=[8080, 8443])
    task = init.client.start(["/bin/sleep", "1000"], name="t0", **held)
    private = init.client.start(["/bin/sleep", "1000"], name="t1", flags=s.OWN_NETWORK, **held)
    init.client.ask(s.REEXEC, s.text(""))
    init.client.close()
    init.client = s.Client(init.folder)
    state = init.client.state(task)
    assert {name: state[name] for name in held} == held
    assert init.client.state(private)["ports"] == []  # none of the host's


def test_a_reexecution_that_fails_changes_nothing(init):
    task = init.client.start(["/bin/sleep", "1000"])
    pid = host_pid(init, task)
    init.client.ask(s.REEXEC, s.text("/no/such/binary"))
    assert init.client.state(task)["up"] == 1 and alive(pid)
    assert s.Client(init.folder).welcome["reexecs"] == 0


@pytest.mark.parametrize("who", ["inner", "outer"])
def test_the_death_of_unum_init_is_everyones_death(init, who):
    pids = [host_pid(init, init.client.start(["/bin/sleep", "1000"], name=f"t{i}"))
            for i in range(5)]
    inner = init.inner()
    os.kill(inner if who == "inner" else init.process.pid, signal.SIGKILL)
    init.process.wait(10)
    wait_for(lambda: not any(alive(pid) for pid in [inner, *pids]))


def test_unumd_is_started_unprivileged_and_again_while_tasks_run_on(folder):
    """unumd is played by a shell; the tasks are started by this test between its lives."""
    out = os.path.join(folder, "out")
    os.mkdir(os.path.join(folder, "data"))
    os.chown(os.path.join(folder, "data"), 1 << 30, 1 << 30)
    os.chown(folder, 1 << 30, 1 << 30)
    open(out, "w").close()
    os.chmod(out, 0o666)
    script = f"echo $$ $(id -u) $(grep -E 'CapEff|NoNew' /proc/self/status) $1 >> {out}; sleep 1000"
    init = Init(folder, "/bin/sh", ["-c", script, "sh", "argument"])
    try:
        wait_for(lambda: len(open(out).readlines()) == 1)
        words = open(out).read().split()
        assert words[1:] == [str(1 << 30), "CapEff:", "0" * 16, "NoNewPrivs:", "1", "argument"]
        init.client = s.Client(folder)
        task = init.client.start(["/bin/sleep", "1000"])
        pid = host_pid(init, task)
        children = open(f"/proc/{init.inner()}/task/{init.inner()}/children").read().split()
        unumd = next(child for child in children
                     if open(f"/proc/{child}/comm").read().strip() in ("dash", "sleep"))
        os.kill(int(unumd), signal.SIGKILL)
        wait_for(lambda: len(open(out).readlines()) == 2)
        assert alive(pid) and init.client.state(task)["incarnation"] == 1
    finally:
        init.end()


def unum_log_pid(init):
    children = open(f"/proc/{init.inner()}/task/{init.inner()}/children").read().split()
    for child in children:
        try:
            if open(f"/proc/{child}/comm").read().strip() == "unum-log":
                return int(child)
        except OSError:
            pass
    return None


def test_no_line_is_lost_or_doubled_while_unum_log_is_killed(init):
    lines = 20000
    script = f"i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done"
    names = ["a", "b"]
    tasks = [init.client.start(["/bin/sh", "-c", script], name=name, restart=s.TEMPORARY,
                               log_bytes=64 << 20) for name in names]
    kills, done = 0, threading.Event()

    def ended():
        return all(init.client.state(task)["state"] == "done" for task in tasks)

    while not ended():
        pid = unum_log_pid(init)
        if pid is not None and kills < 15:
            try:
                os.kill(pid, signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
        done.wait(0.01)
    assert kills >= 3
    for name in names:
        wait_for(lambda: len(log_lines(init.folder, name)) >= lines)
        assert [line for _, _, line in log_lines(init.folder, name)] == [
            f"line {i}" for i in range(lines)]


@pytest.mark.parametrize("size", [0, 8], ids=["killed after the read", "killed while writing"])
def test_a_batch_that_a_killed_unum_log_had_taken_is_written_once(folder, size):
    """The staging file is left as a kill between read() and write leaves it."""
    init = Init(folder)
    init.client.start(["/bin/echo", "one"], restart=s.TEMPORARY)
    wait_for(lambda: log_lines(folder) == [(0, 1, "one")])
    init.end()
    segment = os.path.join(folder, "logs/test/task-0/0000000000000000.log")
    end = os.path.getsize(segment) - 32
    if size:  # part of the batch is in the log already
        with open(segment, "ab") as file, open(segment, "rb") as again:
            again.seek(32)
            file.write(again.read())
    head = struct.pack("<IIQQQIBBBB63s63s", 1, size, end, 1, 0, 0, 0, 0, 4, 6, b"test", b"task-0")
    with open(os.path.join(folder, "logs/.staging"), "r+b") as file:
        file.write(head)
        file.seek(4096)
        file.write(b"two\nthr\n")
    init = Init(folder)
    try:
        wait_for(lambda: len(log_lines(folder)) == 3)
        assert log_lines(folder) == [(0, 1, "one"), (0, 1, "two"), (0, 1, "thr")]
    finally:
        init.end()


def test_a_line_that_is_too_long_is_cut(init):
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo after"
    init.client.start(["/bin/sh", "-c", script], restart=s.TEMPORARY)
    wait_for(lambda: (0, 1, "after") in log_lines(init.folder))
    lines = log_lines(init.folder)
    assert len(lines) == 2 and lines[0][2] == "x" * 16384


def test_a_second_unum_init_on_the_folder_is_refused(init):
    second = subprocess.run([os.path.join(PROGRAMS, "unum-init"), "--dir", init.folder],
                            capture_output=True, text=True, timeout=10)
    assert second.returncode == 1 and "another unum-init runs on" in second.stderr
    assert init.client.list() == []


def test_a_shutdown_stops_tasks_and_leaves_nothing(init):
    task = init.client.start(["/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; "
                              "while :; do sleep 0.01; done"])
    wait_for(lambda: (0, 1, "up") in log_lines(init.folder))
    pid = host_pid(init, task)
    init.client.ask(s.SHUTDOWN)
    assert init.process.wait(10) == 0
    assert not alive(pid)
    assert (0, 1, "bye") in log_lines(init.folder)


def test_a_killed_unum_init_leaves_no_cgroup(init):
    host_pid(init, init.client.start(["/bin/sleep", "1000"]))
    with open(f"/proc/{init.inner()}/cgroup") as file:
        own = next(line[3:].strip() for line in file if line.startswith("0::"))
    with open("/proc/mounts") as file:
        mount = next(line.split()[1] for line in file if line.split()[2] == "cgroup2")
    base = mount + os.path.dirname(own)
    assert os.path.isdir(base)
    os.kill(init.inner(), signal.SIGKILL)
    init.process.wait(10)
    assert not os.path.exists(base)


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None
                    or shutil.which("curl") is None, reason="nginx or curl is not installed")
def test_debians_nginx_runs_unmodified_and_serves(init):
    command = ["/usr/sbin/nginx", "-g", "daemon off;"]
    task = init.client.start(command, name="nginx", flags=s.OWN_NETWORK)
    pid = host_pid(init, task)

    def fetch():
        return subprocess.run(["nsenter", "-t", str(pid), "-n", "curl", "-s", "-m", "5",
                               "http://127.0.0.1/"], capture_output=True, text=True).stdout
    wait_for(lambda: "nginx" in fetch())
    workers = subprocess.run(["ps", "-o", "uid=", "--ppid", str(pid)], capture_output=True,
                             text=True).stdout.split()
    master = open(f"/proc/{pid}/status").read().split("Uid:")[1].split()[0]
    assert workers and all(int(uid) % 2**32 == int(master) + 33 for uid in workers)  # www-data
    os.kill(pid, signal.SIGKILL)
    init.client.wait(task, lambda state: state["incarnation"] == 2 and state["host_pid"] != 0)
    pid = host_pid(init, task)
    wait_for(lambda: "nginx" in fetch())
    init.client.ask(s.STOP, task)
    init.client.wait_state(task, "stopped")


def test_without_root_it_says_what_is_missing_and_still_supervises():
    user = 12345
    folder = tempfile.mkdtemp(prefix="unum-init-test-")
    os.chown(folder, user, user)
    programs = tempfile.mkdtemp(prefix="unum-init-programs-")
    os.chmod(programs, 0o755)
    for program in ("unum-init", "unum-stub", "unum-log"):
        shutil.copy(os.path.join(PROGRAMS, program), programs)
    process = subprocess.Popen([os.path.join(programs, "unum-init"), "--dir", folder],
                               user=user, group=user, extra_groups=[])
    try:
        time.sleep(0.05)
        if process.poll() is not None:
            pytest.skip("this kernel allows no user namespace without root")
        client = s.Client(folder)
        assert client.welcome["features"] & s.FEATURE_ID_RANGE == 0
        assert "not started as root" in client.welcome["missing"]
        task = client.start(["/bin/sh", "-c", "echo hello; exec sleep 1000"])
        client.wait_state(task, "running")
        wait_for(lambda: (0, 1, "hello") in log_lines(folder))
        client.ask(s.KILL, task)
        client.wait(task, lambda state: state["incarnation"] == 2 and state["up"] == 1)
        private = client.start(["/bin/sleep", "1000"], name="private", flags=s.OWN_NETWORK)
        client.wait_state(private, "running")
        for which in (task, private):
            assert output_inside(client, which, "id -u") == "0\n"
        client.ask(s.STOP, task)
        client.wait_state(task, "stopped")
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)
        shutil.rmtree(programs)

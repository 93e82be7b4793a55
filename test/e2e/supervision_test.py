"""Supervision by the command line: what runs is kept running, and everything that happens to it is told.

Method: real computers; processes are killed as a user or the kernel would, and what `unum` shows afterwards is
compared with what is there in /proc."""
import http.server
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from conftest import UNUM, Computer, alive, below, free_port, name_of, needs_root, wait_until
from jobs_test import apply, incarnations, why

pytestmark = needs_root
# Says READY=1 after some seconds (not at all with a second argument); ends half a second after SIGTERM.
NOTIFIER = ("import os, signal, socket, sys, time\\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\\n"
            "time.sleep(float(sys.argv[1]))\\n"
            "path = os.environ.get('NOTIFY_SOCKET', '')\\n"
            "if path and len(sys.argv) == 2:\\n"
            "    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', path.replace('@', chr(0)))\\n"
            "print('waits', flush=True)\\n"
            "signal.sigwait([signal.SIGTERM])\\n"
            "print('saw SIGTERM', flush=True)\\n"
            "time.sleep(0.5)\\n"
            "sys.exit(5)\\n")


def task(computer, name):
    return next((t for t in computer.tasks() if t["name"] == name), None)


def pid_of(computer, name):
    return int(task(computer, name).get("pid", 0))


def told(computer, name):
    return computer.unum("why", name, check=False).stdout


def run(computer, name, *command, options=()):
    computer.unum("run", "--name", name, "--cpu", "0", *options, "--", *map(str, command))
    wait_until(lambda: computer.states(name) and set(computer.states(name)) <= {"running", "ready"})


def remove(computer, *names):
    for name in names:
        computer.unum("stop", "--remove", name)


def program(pid):
    """The program itself: the child of its stub, or PID when that is it."""
    return next(iter(below(pid) - {pid}), pid)


def test_a_killed_task_comes_back_and_why_tells_by_what_it_died(shared_computer):
    run(shared_computer, "victim", "sleep", "1000")
    before = incarnations(shared_computer, "victim")["victim-0"]
    os.kill(pid_of(shared_computer, "victim-0"), signal.SIGKILL)
    wait_until(lambda: incarnations(shared_computer, "victim")["victim-0"] > before and
               shared_computer.states("victim") == ["running"])
    assert "SIGKILL" in told(shared_computer, "victim-0"), told(shared_computer, "victim-0")
    assert int(task(shared_computer, "victim-0")["restarts"]) == 1
    remove(shared_computer, "victim")


def test_a_stopped_job_stays_stopped_and_starts_again_when_applied(shared_computer, folder):
    text = "name: pause\ncommand: [sleep, '1000']\nresources: {cpu: 0}\n"
    apply(shared_computer, folder, text)
    wait_until(lambda: shared_computer.states("pause") == ["running"])
    pid = pid_of(shared_computer, "pause-0")
    shared_computer.unum("stop", "pause")
    wait_until(lambda: not alive(pid))
    assert "stopped" in told(shared_computer, "pause")
    apply(shared_computer, folder, text)
    wait_until(lambda: shared_computer.states("pause") == ["running"])
    remove(shared_computer, "pause")


def test_a_changed_job_replaces_its_tasks_a_quarter_at_a_time(shared_computer, folder):
    text = "name: change\ncount: 4\ncommand: [sleep, '{}']\nresources: {{cpu: 0}}\n"
    apply(shared_computer, folder, text.format(1000))
    wait_until(lambda: shared_computer.states("change") == ["running"] * 4)
    before = incarnations(shared_computer, "change")
    apply(shared_computer, folder, text.format(2000))
    fewest = 4

    def replaced():
        nonlocal fewest
        states = shared_computer.states("change")
        fewest = min(fewest, states.count("running"))
        now = incarnations(shared_computer, "change")
        return states == ["running"] * 4 and all(now[name] >> 44 > before[name] >> 44 for name in before)
    wait_until(replaced)
    assert fewest >= 2, f"only {fewest} of 4 ran"
    remove(shared_computer, "change")


def test_readiness_by_notify(shared_computer, folder):
    apply(shared_computer, folder, f"name: notify\ncommand: [python3, -c, \"{NOTIFIER}\", '0.5']\nresources: {{cpu: 0}}\nready: notify\n")
    wait_until(lambda: shared_computer.states("notify") in (["running"], ["starting"]))
    wait_until(lambda: shared_computer.states("notify") == ["ready"])
    remove(shared_computer, "notify")


def test_what_never_says_that_it_is_ready_is_restarted_and_why_says_so(shared_computer, folder):
    apply(shared_computer, folder, f"name: silent\ncommand: [python3, -c, \"{NOTIFIER}\", '0', never]\nresources: {{cpu: 0}}\n"
          "ready: {notify: true, start_timeout: 300ms}\n")
    wait_until(lambda: "not ready within" in told(shared_computer, "silent-0"))
    wait_until(lambda: int(task(shared_computer, "silent-0").get("restarts", 0)) >= 1)
    remove(shared_computer, "silent")


def test_readiness_by_tcp_http_and_command(shared_computer, folder):
    ports = [free_port() for _ in range(2)]
    apply(shared_computer, folder,
          f"name: tcp\ncommand: [python3, -m, http.server, '${{port.web}}', --directory, /tmp]\nresources: {{cpu: 0}}\n"
          f"ports: {{web: {ports[0]}}}\nready: {{tcp: web, interval: 100ms}}\n---\n"
          f"name: http\ncommand: [python3, -m, http.server, '${{port.web}}', --directory, /tmp]\nresources: {{cpu: 0}}\n"
          f"ports: {{web: {ports[1]}}}\nready: {{http: web/, interval: 100ms}}\n---\n"
          "name: command\ncommand: [sh, -c, 'sleep 0.3; touch /tmp/good; sleep 1000']\nresources: {cpu: 0}\n"
          "ready: {command: [test, -e, /tmp/good], interval: 100ms}\n")
    for job in ("tcp", "http", "command"):
        wait_until(lambda: shared_computer.states(job) == ["ready"])
    before = incarnations(shared_computer, "command")["command-0"]
    shared_computer.unum("exec", "command-0", "--", "rm", "/tmp/good", input="")
    wait_until(lambda: incarnations(shared_computer, "command")["command-0"] > before)
    assert "3 probes in a row failed: test ended with 1" in told(shared_computer, "command-0")
    wait_until(lambda: shared_computer.states("command") == ["ready"])
    remove(shared_computer, "tcp", "http", "command")


def test_a_failing_probe_restarts_the_task_and_says_so(shared_computer, folder):
    port = free_port()
    script = ("import http.server, sys, os\\n"
              "class H(http.server.BaseHTTPRequestHandler):\\n"
              "    def do_GET(self):\\n"
              "        self.send_response(500 if os.path.exists('/tmp/sick') else 200); self.end_headers()\\n"
              "    def log_message(self, *a): pass\\n"
              "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()\\n")
    apply(shared_computer, folder, f"name: sick\ncommand: [python3, -c, \"{script}\", '${{port.web}}']\n"
          f"resources: {{cpu: 0}}\nports: {{web: {port}}}\nready: {{http: web/, interval: 100ms, failures: 2}}\n")
    wait_until(lambda: shared_computer.states("sick") == ["ready"])
    before = incarnations(shared_computer, "sick")["sick-0"]
    shared_computer.unum("exec", "sick-0", "--", "touch", "/tmp/sick", input="")
    wait_until(lambda: incarnations(shared_computer, "sick")["sick-0"] > before)
    assert "500" in told(shared_computer, "sick-0"), told(shared_computer, "sick-0")
    wait_until(lambda: shared_computer.states("sick") == ["ready"])  # /tmp is new
    remove(shared_computer, "sick")


def test_a_port_that_the_program_can_not_take_shows_in_why(shared_computer, folder):
    port = free_port()
    holder = http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=holder.serve_forever, daemon=True).start()
    try:
        apply(shared_computer, folder, "name: taken\ncommand: [python3, -m, http.server, '${port.web}', --bind, 127.0.0.1]\n"
              f"resources: {{cpu: 0}}\nports: {{web: {port}}}\n")
        wait_until(lambda: "exited with status 1" in told(shared_computer, "taken-0"))
        assert "Address already in use" in shared_computer.unum("logs", "taken-0").stdout
    finally:
        holder.shutdown()
        holder.server_close()
    remove(shared_computer, "taken")


def test_a_stop_lets_the_program_end_and_then_kills_its_tree(shared_computer, folder):
    apply(shared_computer, folder, f"name: polite\ncommand: [python3, -c, \"{NOTIFIER}\", '0']\nresources: {{cpu: 0}}\nstop: {{grace: 5s}}\n---\n"
          "name: rude\ncommand: [sh, -c, \"trap '' TERM; sleep 1000 & while :; do sleep 1000; done\"]\n"
          "resources: {cpu: 0}\nstop: {grace: 500ms}\n")
    wait_until(lambda: shared_computer.states("polite") == ["running"] and shared_computer.states("rude") == ["running"])
    wait_until(lambda: "waits" in shared_computer.unum("logs", "polite-0").stdout)
    wait_until(lambda: len(below(pid_of(shared_computer, "rude-0"))) >= 3)
    tree = below(pid_of(shared_computer, "rude-0"))
    begun = time.monotonic()
    shared_computer.unum("stop", "polite")
    shared_computer.unum("stop", "rude")
    wait_until(lambda: not any(alive(pid) for pid in tree))
    assert 0.4 < time.monotonic() - begun < 4
    wait_until(lambda: "saw SIGTERM" in shared_computer.unum("logs", "polite-0").stdout)
    wait_until(lambda: "status 5" in told(shared_computer, "polite-0"))
    assert "grace" in told(shared_computer, "rude-0"), told(shared_computer, "rude-0")
    remove(shared_computer, "polite", "rude")


def test_a_parent_that_leaves_a_child_unreaped_is_killed_and_why_says_so(shared_computer, folder):
    script = "import os, time\\nif os.fork() == 0: os._exit(0)\\ntime.sleep(1000)\\n"
    apply(shared_computer, folder, f"name: careless\ncommand: [python3, -c, \"{script}\"]\nresources: {{cpu: 0}}\n")
    wait_until(lambda: "unreaped" in told(shared_computer, "careless-0"), seconds=40)
    remove(shared_computer, "careless")


def test_a_private_network_has_a_loopback_and_nothing_else(shared_computer, folder):
    apply(shared_computer, folder, "name: alone\ncommand: [sleep, '1000']\nresources: {cpu: 0}\nnetwork: private\n")
    wait_until(lambda: shared_computer.states("alone") == ["running"])
    seen = shared_computer.unum("exec", "alone-0", "--", "cat", "/proc/net/dev", input="").stdout
    assert [line.split(":")[0].strip() for line in seen.splitlines() if ":" in line] == ["lo"]
    shown = shared_computer.unum("exec", "alone-0", "--", "python3", "-c",
                                 "import socket; s = socket.create_server(('127.0.0.1', 80)); "
                                 "socket.create_connection(('127.0.0.1', 80)); print('reached')", input="").stdout
    assert shown == "reached\n"
    remove(shared_computer, "alone")


def test_followed_logs_are_complete_while_the_daemon_is_killed(computer):
    run(computer, "talk", "sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.005; done")
    logs = subprocess.Popen([str(UNUM), "logs", "-f", "-n", "100000", "talk-0", "--dir", str(computer.folder)],
                            stdout=subprocess.PIPE, text=True)
    numbers = []
    reader = threading.Thread(target=lambda: numbers.extend(int(line) for line in logs.stdout), daemon=True)
    reader.start()
    try:
        for _ in range(3):
            count = len(numbers)
            wait_until(lambda: len(numbers) > count + 50)
            daemon = computer.daemon_pid()
            os.kill(daemon, signal.SIGKILL)
            wait_until(lambda: computer.daemon_pid() not in (0, daemon))
        count = len(numbers)
        wait_until(lambda: len(numbers) > count + 50)
    finally:
        logs.send_signal(signal.SIGINT)
        logs.wait(10)
    assert numbers == list(range(1, len(numbers) + 1)), "a line is missing or twice"


def test_the_death_of_unum_init_is_everyones_and_up_brings_all_back(computer):
    run(computer, "all", "sleep", "1000", options=("--count", "3"))
    computer.unum("put", "kept", "1")
    everything = below(computer.outer_pid())
    inner = [pid for pid in everything if name_of(pid) == "unum-init" and pid != computer.outer_pid()]
    os.kill(inner[0] if inner else computer.outer_pid(), signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in everything))
    computer.up()
    wait_until(lambda: computer.states("all") == ["running"] * 3)
    assert "1" in computer.unum("get", "kept").stdout


def test_unum_init_re_executes_itself_and_keeps_every_task(computer):
    run(computer, "kept", "sleep", "1000", options=("--count", "3"))
    before = {t["name"]: (t["pid"], t["incarnation"]) for t in computer.tasks()}
    os.kill(computer.outer_pid(), signal.SIGUSR2)
    time.sleep(0.5)  # there is no event for "nothing happened"
    computer.unum("run", "--name", "new", "--cpu", "0", "--", "sleep", "1000")
    wait_until(lambda: computer.states("new") == ["running"])
    after = {t["name"]: (t["pid"], t["incarnation"]) for t in computer.tasks("kept")}
    assert after == before
    os.kill(int(after["kept-0"][0]), signal.SIGKILL)
    wait_until(lambda: computer.states("kept") == ["running"] * 3 and
               {t["name"]: t["pid"] for t in computer.tasks("kept")}["kept-0"] != after["kept-0"][0])


def test_two_computers_stand_side_by_side(computer, folder):
    other = Computer(folder / "other")
    other.up()
    try:
        for made, word in ((computer, "first"), (other, "second")):
            made.unum("put", "who", word)
            run(made, "same", "sleep", "1000")
        assert "first" in computer.unum("get", "who").stdout and "second" in other.unum("get", "who").stdout
        pids = [pid_of(made, "same-0") for made in (computer, other)]
        users = [pathlib.Path(f"/proc/{pid}/uid_map").read_text() for pid in map(program, pids)]
        assert users[0] != users[1], "two computers give the same user ids"
    finally:
        other.down()
    assert computer.states("same") == ["running"] and alive(pids[0]) and not alive(pids[1])


def test_down_leaves_no_process_no_cgroup_and_no_mount(folder):
    computer = Computer(folder / "computer")
    mounts = pathlib.Path("/proc/mounts").read_text().count(str(folder))
    computer.up()
    run(computer, "some", "sh", "-c", "sleep 1000 & wait", options=("--count", "2"))
    everything = below(computer.outer_pid())
    line = next(line for line in pathlib.Path(f"/proc/{pid_of(computer, 'some-0')}/cgroup").read_text().splitlines()
                if line.startswith("0::"))
    top = next((part for part in line[3:].split("/") if part.startswith("unum-")), None)
    roots = [root for root in (pathlib.Path("/sys/fs/cgroup/unified"), pathlib.Path("/sys/fs/cgroup")) if top]
    assert computer.down().returncode == 0
    assert not any(alive(pid) for pid in everything)
    assert not any((root / top).exists() for root in roots)
    assert pathlib.Path("/proc/mounts").read_text().count(str(folder)) == mounts
    assert "was not up" in computer.down().stdout


def test_every_command_speaks_json(shared_computer, folder):
    path = folder / "job.yaml"
    path.write_text("name: spoken\ncommand: [sh, -c, 'echo hello; sleep 1000']\nresources: {cpu: 0}\n")
    lease = shared_computer.json("lease", "grant", "60s")["lease"]
    commands = [("plan", path), ("apply", path), ("ps",), ("status",), ("machines",), ("why", "spoken"),
                ("logs", "spoken-0"), ("put", "spoken/key", "1"), ("get", "spoken/key"),
                ("txn", "--if", "spoken/key = 1", "--then", "put spoken/key 2"), ("lease", "list"),
                ("lease", "keep", lease), ("lease", "revoke", lease), ("del", "spoken/key"), ("version",),
                ("restart", "spoken"), ("stop", "--remove", "spoken")]
    for command in commands:
        if command[0] == "logs":
            wait_until(lambda: shared_computer.unum("logs", "spoken-0").stdout)
        done = shared_computer.unum(*map(str, command), "-o", "json")
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert answers and all(isinstance(answer, dict) for answer in answers), (command, done.stdout)

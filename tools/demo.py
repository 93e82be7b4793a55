#!/usr/bin/env python3
"""The main job, shown: a computer on this host keeps a real workload alive while everything is killed.

Each step prints what it proved and the time it took. With CHECK=1 nothing is asked and the exit
status is 0 only if every step held. Environment: BUILD (build folder), DEMO_DIR, DEMO_PORT."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()
CHECK = os.environ.get("CHECK", "") not in ("", "0")
PORTS = range(8081, 8089)
failures = []
started = time.monotonic()


def unum(*arguments, check=True, timeout=60, **options):
    command = [str(BUILD / "src/cli/unum"), *arguments, "--dir", DIR]
    if "--" in arguments:
        at = arguments.index("--")
        command = [str(BUILD / "src/cli/unum"), *arguments[:at], "--dir", DIR, *arguments[at:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"unum {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
    return done


def tasks(job=None):
    arguments = ["ps", "-o", "json"] + ([job] if job else [])
    return json.loads(unum(*arguments).stdout).get("tasks", [])


def step(title):
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}", flush=True)


def proved(text, since=None, ok=True):
    took = f" ({(time.monotonic() - since) * 1000:.0f} ms)" if since is not None else ""
    print(f"  {'ok ' if ok else 'NOT'} {text}{took}", flush=True)
    if not ok:
        failures.append(text)


def show(*arguments):
    done = unum(*arguments, check=False)
    print(f"  $ unum {' '.join(arguments)}")
    for line in (done.stdout + done.stderr).splitlines()[:16]:
        print(f"  {line}")


def fetch(port, timeout=2):
    """One request by curl, as anybody would make it; the body, or None."""
    done = subprocess.run(["curl", "-sf", "-m", str(timeout), f"http://127.0.0.1:{port}/"],
                          capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def wait_until(what, condition, seconds=30, pause=0.005):
    """Poll until the condition gives something; what it gave, or None after the bound."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(pause)
    print(f"  not within {seconds} s: {what}")
    return None


def all_ready(job, count):
    states = [task["state"] for task in tasks(job)]
    return len(states) == count and all(state == "ready" for state in states)


def host_processes(text):
    """Processes of this host whose command line contains TEXT: {pid: command}."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if text in command:
            found[int(folder.name)] = command
    return found


def below(pid):
    """PID and all its descendants."""
    children = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, queue = set(), [pid]
    while queue:
        process = queue.pop()
        found.add(process)
        queue += children.get(process, [])
    return found


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def masters():
    return sorted(pid for pid, command in host_processes("nginx: master").items()
                  if command.startswith("nginx: master") and pid in below(outer_pid()))


def outer_pid():
    return int((pathlib.Path(DIR) / "up.pid").read_text().split()[0])


def daemon_pid():
    found = [pid for pid in below(outer_pid())
             if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "unumd"]
    return found[0] if found else 0


def start_computer():
    since = time.monotonic()
    unum("up", "--background", "--address", f"127.0.0.1:{PORT}")
    wait_until("the computer answers", lambda: unum("status", check=False).returncode == 0)
    proved(f"the computer answers on 127.0.0.1:{PORT}", since)


def kill_and_wait(title, victims, ports):
    since = time.monotonic()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    for port in ports:
        wait_until(f"port {port} answers", lambda p=port: fetch(p))
    good = all(fetch(port) for port in ports)
    proved(title, since, good)


def step_web():
    step("1. A job of eight web servers (Debian's nginx, unmodified)")
    since = time.monotonic()
    unum("apply", str(ROOT / "examples/web.yaml"))
    unum("apply", str(ROOT / "examples/numbers.yaml"))
    ready = wait_until("eight tasks are ready", lambda: all_ready("web", 8))
    proved("apply to eight servers ready by their own health check", since, bool(ready))
    pages = [fetch(port) for port in PORTS]
    proved(f"curl got a page from each of {len([p for p in pages if p])} servers", ok=all(pages))
    show("ps", "web")


def step_kills():
    step("2. kill -9 of one nginx master")
    before = masters()
    kill_and_wait("the same port serves again", before[:1], [PORTS[0], *PORTS[1:]])
    wait_until("a new master", lambda: len(masters()) == 8)
    proved("the other seven were not touched", ok=len(set(before) & set(masters())) == 7)
    step("3. kill -9 of all eight masters at once")
    kill_and_wait("all eight ports serve again", masters(), PORTS)
    proved("no worker of a dead master is left", ok=bool(wait_until(
        "only new processes", lambda: len(masters()) == 8 and orphans() == 0)))


def orphans():
    own = set()
    for master in masters():
        own |= below(master)
    workers = [pid for pid, command in host_processes("nginx: worker").items() if pid in below(outer_pid())]
    return len([pid for pid in workers if pid not in own])


def step_tree():
    step("4. A task that forked a deep tree dies as one")
    unum("apply", str(ROOT / "examples/tree.yaml"))
    wait_until("the tree stands", lambda: len(host_processes("unum-demo-leaf")) >= 30)
    leaves = [pid for pid in host_processes("unum-demo-leaf") if pid in below(outer_pid())]
    victim = next(t for t in tasks("tree"))
    host_pid = tree_root(leaves)
    since = time.monotonic()
    os.kill(host_pid, signal.SIGKILL)
    gone = wait_until("all are gone", lambda: not any(alive(pid) for pid in leaves), seconds=5, pause=0.001)
    proved(f"one kill, and {len(leaves)} processes of {victim['name']} are gone", since, bool(gone))
    again = wait_until("a new tree", lambda: len(host_processes("unum-demo-leaf")) >= 30)
    proved("and the tree runs again, as a new incarnation", ok=bool(again))
    unum("stop", "tree")


def tree_root(leaves):
    """The task's own program: the ancestor of all leaves that is nearest to them all."""
    common = None
    for pid in leaves:
        chain = []
        while pid > 1:
            chain.append(pid)
            pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        common = chain if common is None else [p for p in common if p in chain]
    return common[0]


def step_daemon():
    step("5. kill -9 of unumd: the tasks do not notice")
    before = masters()
    lines_before = number_lines()
    since = time.monotonic()
    os.kill(daemon_pid(), signal.SIGKILL)
    served = all(fetch(port) for port in PORTS)
    proved("while it was dead all eight servers answered", ok=served)
    wait_until("the daemon answers", lambda: unum("status", check=False).returncode == 0)
    proved("the daemon is back and answers", since)
    wait_until("it found the tasks again", lambda: all_ready("web", 8))
    proved("the processes of the tasks are the same as before", ok=masters() == before)
    wait_until("more lines", lambda: len(number_lines()) > len(lines_before))
    numbers = number_lines()
    proved(f"no line of `numbers` is missing ({len(numbers)} in a row)", ok=in_a_row(numbers))


def number_lines():
    text = unum("logs", "numbers", "-n", "100000", "-o", "json").stdout
    numbers = []
    for line in text.splitlines():
        record = json.loads(line)
        for entry in record.get("lines", [record]):
            words = entry_text(entry).split()
            if len(words) == 2 and words[0] == "line":
                numbers.append(int(words[1]))
    return numbers


def entry_text(entry):
    import base64
    return base64.b64decode(entry.get("text", "")).decode(errors="replace")


def in_a_row(numbers):
    """Counting up by one; a new incarnation begins at 1 again."""
    return len(numbers) > 0 and all(b == a + 1 or b == 1 for a, b in zip(numbers, numbers[1:]))


def step_crash_loop():
    step("6. A job that crashes at once is held back, and says why")
    unum("apply", str(ROOT / "examples/crash.yaml"))
    held = wait_until("held", lambda: [t for t in tasks("crash") if t["state"] == "held"])
    proved("restarted with growing pauses, then held", ok=bool(held))
    show("why", "crash-0")
    unum("stop", "crash")


def step_plug():
    step("7. Pull the plug: everything is killed, unum-init too")
    acknowledged = {}
    for number in range(200):
        key, value = f"demo/{number}", f"value {number}"
        unum("put", key, value)
        acknowledged[key] = value
    since = time.monotonic()
    victims = below(outer_pid())
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    gone = wait_until("all are gone", lambda: not any(alive(pid) for pid in victims), seconds=10, pause=0.001)
    proved(f"{len(victims)} processes killed, none is left", since, bool(gone))
    since = time.monotonic()
    start_computer()
    reply = json.loads(unum("get", "--prefix", "demo/", "-o", "json").stdout)
    found = {item_text(item["key"]): item_text(item["value"]) for item in reply.get("items", [])}
    proved(f"every one of {len(acknowledged)} acknowledged writes is there", ok=found == acknowledged)
    ready = wait_until("the job is back", lambda: all_ready("web", 8) and all(fetch(p) for p in PORTS))
    proved("and so are the jobs: eight servers answer", since, bool(ready))


def item_text(text):
    import base64
    return base64.b64decode(text).decode()


def step_down():
    step("8. Leave: unum down")
    everything = below(outer_pid())
    since = time.monotonic()
    unum("down")
    gone = wait_until("all are gone", lambda: not any(alive(pid) for pid in everything), seconds=20)
    proved("no process is left", since, bool(gone))


def main():
    for step_function in (step_web, step_kills, step_tree, step_daemon, step_crash_loop, step_plug, step_down):
        step_function()
    took = time.monotonic() - started
    if failures:
        print(f"\ndemo: {len(failures)} steps did not hold, after {took:.1f} s: " + "; ".join(failures))
        return 1
    print(f"\ndemo: every step held, in {took:.1f} s")
    return 0


def free_port(wanted):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    folder = os.environ.get("DEMO_DIR") or tempfile.mkdtemp(prefix="unum-demo-")
    DIR = str(pathlib.Path(folder) / "computer")
    PORT = int(os.environ.get("DEMO_PORT", "0")) or free_port(7117)
    print(f"A computer in {DIR}")
    step("0. Start")
    try:
        start_computer()
        if not CHECK and sys.stdout.isatty():
            print("  Follow along in another terminal: "
                  f"watch {BUILD}/src/cli/unum ps --dir {DIR}")
        code = main()
    except Exception as problem:  # the sentence, then the tail of the daemon's own log
        print(f"\ndemo: stopped: {problem}")
        code = 1
    finally:
        try:
            unum("down", check=False, timeout=30)
        except subprocess.TimeoutExpired:
            pass
        if not os.environ.get("DEMO_DIR") and code == 0:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)

"""Computers for the end-to-end tests: real processes, in a folder of their own, on a free port."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("UNUM_BUILD", ROOT / "build"))
UNUM = BUILD / "src/cli/unum"
UNUMD = BUILD / "src/node/unumd"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds=20, pause=0.01):
    """What CONDITION gave as soon as it is true; fails after the bound."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(pause)


def parents():
    """{pid: parent} of every process of this host."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            continue
    return found


def below(pid):
    """PID and all its descendants."""
    table = parents()
    found, queue = set(), [pid]
    while queue:
        process = queue.pop()
        found.add(process)
        queue += [child for child, parent in table.items() if parent == process]
    return found


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Computer:
    def __init__(self, folder, port=None):
        self.folder = pathlib.Path(folder)
        self.port = port or free_port()

    def unum(self, *arguments, check=True, timeout=60, input=None, text=True):
        command = [str(UNUM)]
        at = arguments.index("--") if "--" in arguments else len(arguments)
        command += [*arguments[:at], "--dir", str(self.folder), *arguments[at:]]
        done = subprocess.run(command, capture_output=True, text=text, timeout=timeout, input=input)
        if check:
            assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr}"
        return done

    def json(self, *arguments):
        return json.loads(self.unum(*arguments, "-o", "json").stdout or "{}")

    def up(self, check=True):
        done = self.unum("up", "--background", "--address", f"127.0.0.1:{self.port}", check=check)
        if check:
            wait_until(lambda: self.unum("status", check=False).returncode == 0)
        return done

    def down(self, check=False):
        return self.unum("down", check=check, timeout=60)

    def outer_pid(self):
        return int((self.folder / "up.pid").read_text().split()[0])

    def daemon_pid(self):
        return next((pid for pid in below(self.outer_pid()) if name_of(pid) == "unumd"), 0)

    def tasks(self, job=None):
        return self.json("ps", *([job] if job else [])).get("tasks", [])

    def states(self, job):
        return [task["state"] for task in self.tasks(job)]

    def pull_the_plug(self):
        victims = below(self.outer_pid())
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not any(alive(pid) for pid in victims))


@pytest.fixture
def folder():
    path = tempfile.mkdtemp(prefix="unum-test-")
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def computer(folder):
    """A computer that runs; it is taken down afterwards."""
    made = Computer(folder / "computer")
    made.up()
    yield made
    made.down()
    wait_until(lambda: not (made.folder / "up.pid").exists() or not alive(made.outer_pid()))


@pytest.fixture(scope="session")
def shared_computer(tmp_path_factory):
    """One computer for tests that only read, or that keep to keys and jobs of their own."""
    made = Computer(tempfile.mkdtemp(prefix="unum-test-") + "/computer")
    made.up()
    yield made
    made.down()
    shutil.rmtree(made.folder.parent, ignore_errors=True)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: isolation of tasks")

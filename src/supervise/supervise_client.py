"""A client of unum-init for the tests, written from docs/formats/supervise-protocol.md only, so that
the page and the C code check each other."""

import array
import os
import socket
import struct
import time

HELLO, START, STOP, RESTART, REPORT_READY, LIST, EXEC, KILL, DROP, REEXEC, SHUTDOWN = range(1, 12)
EVENTS_SINCE, RENEW_LEASE, EXEC_SIGNAL = 12, 13, 14
WELCOME, RESULT, END, TASK_STATE, EXEC_EXITED, ZOMBIE_FOUND, TASK_DROPPED = range(64, 71)

STATES = ["pending", "starting", "running", "ready", "stopping", "backoff", "held", "failed",
          "stopped", "done"]
PERMANENT, TRANSIENT, TEMPORARY = range(3)
READINESS_NONE, READINESS_NOTIFY, READINESS_PROBE = range(3)
EXITED, SIGNALED, NOT_STARTED = 1, 2, 3
OWN_NETWORK, EXCLUSIVE = 1, 2
FEATURE_ID_RANGE, FEATURE_CGROUP = 1, 2


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<H", len(raw)) + raw


def strings(values):
    raw = b"".join(value.encode() + b"\0" for value in values)
    return struct.pack("<HH", len(values), len(raw)) + raw


class Reader:
    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, layout):
        values = struct.unpack_from("<" + layout, self.raw, self.at)
        self.at += struct.calcsize("<" + layout)
        return values if len(values) > 1 else values[0]

    def text(self):
        size = self.take("H")
        value = self.raw[self.at:self.at + size].decode(errors="replace")
        self.at += size
        return value


class Refused(Exception):
    def __init__(self, status, sentence):
        super().__init__(f"{status}: {sentence}")
        self.status, self.sentence = status, sentence


class Client:
    def __init__(self, folder, deadline=10):
        end = time.monotonic() + deadline
        path = os.path.join(folder, "supervise.sock")
        while True:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        self.request = 0
        self.events = []
        self.welcome = self.ask(HELLO, struct.pack("<I", 1))

    def close(self):
        self.socket.close()

    def send(self, kind, body=b"", files=()):
        self.request += 1
        packet = struct.pack("<HHIQ", 1, kind, len(body), self.request) + body
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.socket.sendmsg([packet], control)
        return self.request

    def receive(self, timeout):
        self.socket.settimeout(timeout)
        raw = self.socket.recv(65536)
        if not raw:
            raise ConnectionError("unum-init closed the connection")
        version, kind, size, request = struct.unpack_from("<HHIQ", raw)
        assert version == 1 and size == len(raw) - 16
        return kind, request, self.decode(kind, Reader(raw[16:]))

    def decode(self, kind, body):
        if kind == WELCOME:
            names = ("version", "features", "instance", "started_at", "event_last", "event_first",
                     "tasks", "reexecs")
            return dict(zip(names, body.take("IIQQQQII")), missing=body.text())
        if kind == RESULT:
            return dict(zip(("status", "value"), body.take("BQ")), text=body.text())
        if kind == END:
            return dict(zip(("count", "event_last"), body.take("QQ")))
        if kind == TASK_STATE:
            names = ("sequence", "task", "incarnation", "state", "up", "exit_kind", "exit_code",
                     "pid", "host_pid", "restarts", "failures", "started_at", "ended_at",
                     "next_start", "cpu_milli", "memory_bytes")
            state = dict(zip(names, body.take("Q16sQBBBIIIIIQQQIQ")))
            count, ports = body.take("I"), body.take("16H")
            state["ports"] = list(ports[:count])
            state["state"] = STATES[state["state"]]
            state["job"], state["name"], state["reason"] = body.text(), body.text(), body.text()
            return state
        if kind == EXEC_EXITED:
            return dict(zip(("sequence", "task", "exec", "exit_kind", "exit_code"),
                            body.take("Q16sQBI")))
        if kind == ZOMBIE_FOUND:
            names = ("sequence", "task", "incarnation", "parent_pid", "zombie_pid", "age_ms")
            return dict(zip(names, body.take("Q16sQIIQ")), parent_name=body.text())
        if kind == TASK_DROPPED:
            return dict(zip(("sequence", "task"), body.take("Q16s")))
        raise AssertionError(f"kind {kind}")

    def ask(self, kind, body=b"", files=(), timeout=10):
        """The answer to a request; events that come before it are kept."""
        number = self.send(kind, body, files)
        rows = []
        while True:
            got, request, value = self.receive(timeout)
            if request == 0:
                self.events.append((got, value))
            elif got == TASK_STATE:
                rows.append(value)
            else:
                assert request == number
                if got == RESULT and value["status"] != 0:
                    raise Refused(value["status"], value["text"])
                return (rows, value) if got == END else value

    def start(self, argv, name="task-0", job="test", task=None, env=(), folder="", writable=(),
              ports=(), **options):
        numbers = dict(incarnation=1, flags=0, restart=PERMANENT, readiness=READINESS_NONE,
                       stop_signal=15, restarts_limit=5, restarts_period_ms=60000,
                       backoff_base_ms=100, backoff_cap_ms=10000, stable_after_ms=10000,
                       stop_grace_ms=5000, start_timeout_ms=60000, zombie_after_ms=5000,
                       cpu_milli=0, processes_max=0, memory_bytes=0, scratch_bytes=16 << 20,
                       log_bytes=0, lease_until_ns=0)
        assert set(options) <= set(numbers), options
        numbers.update(options)
        task = task or os.urandom(16)
        body = task + struct.pack("<QIBBBBIIIIIIIIIQQQQ", *numbers.values())
        body += struct.pack("<I16H", len(ports), *ports, *[0] * (16 - len(ports)))
        body += text(job) + text(name) + text(folder) + strings(argv) + strings(env)
        body += strings(writable)
        self.ask(START, body)
        return task

    def list(self):
        rows, _ = self.ask(LIST)
        return rows

    def state(self, task):
        return next((row for row in self.list() if row["task"] == task), None)

    def wait(self, task, what, timeout=10):
        """Poll the state of a task until WHAT says yes; the deadline fails the test."""
        end = time.monotonic() + timeout
        while True:
            state = self.state(task)
            if state is not None and what(state):
                return state
            assert time.monotonic() < end, f"still {state}"
            time.sleep(0.005)

    def wait_state(self, task, name, timeout=10):
        return self.wait(task, lambda state: state["state"] == name, timeout)

    def wait_event(self, what, timeout=10):
        end = time.monotonic() + timeout
        while True:
            for kind, value in self.events:
                if what(kind, value):
                    return value
            left = end - time.monotonic()
            assert left > 0, f"no such event in {self.events[-5:]}"
            got, request, value = self.receive(left)
            assert request == 0
            self.events.append((got, value))

    def exec(self, task, argv, env=(), folder="", files=None):
        body = task + text(folder) + strings(argv) + strings(env)
        return self.ask(EXEC, body, files=files or [])["value"]

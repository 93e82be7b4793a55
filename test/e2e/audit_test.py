"""The audit: every use of authority leaves a line with who, what, which request and how it ended."""
import json
import os
import signal
import subprocess

from conftest import BUILD, Computer, needs_root, wait_until

pytestmark = needs_root


def lines(computer):
    """What the audit says; every line is whole and JSON."""
    path = computer.folder / "data/audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def after(computer, count):
    """The lines behind the first COUNT, as soon as there are some."""
    return wait_until(lambda: lines(computer)[count:])


def test_each_use_of_authority_is_a_line_with_who_what_and_how_it_ended(computer):
    computer.unum("run", "--name", "work", "--cpu", "0", "--", "sleep", "1000")
    wait_until(lambda: computer.states("work") == ["running"])
    applied = after(computer, 0)[0]
    assert applied["principal"].startswith("spiffe://") and applied["principal"].endswith("/operator/first")
    assert (applied["action"], applied["subject"], applied["outcome"], applied["text"]) == ("Apply", "work", "ok", "")
    assert len(applied["request"]) == 32 and applied["computer_time_ms"] > 0 and applied["wall_ms"] > 10**12

    computer.unum("exec", "work-0", "--", "true", "secret-argument", input="")
    told = after(computer, 1)[0]
    assert (told["action"], told["subject"], told["outcome"]) == ("Exec", "work-0 true", "ok")
    assert "secret-argument" not in (computer.folder / "data/audit.jsonl").read_text()

    computer.unum("restart", "work")
    assert after(computer, 2)[0]["action"] == "RestartJob"
    assert computer.unum("stop", 'no"such', check=False).returncode == 1
    refused = after(computer, 3)[0]
    assert (refused["action"], refused["subject"], refused["outcome"]) == ("StopJob", 'no"such', "not found")
    assert "there is no job" in refused["text"]
    computer.unum("stop", "work")
    assert after(computer, 4)[0]["outcome"] == "ok"
    computer.unum("ps")
    computer.unum("why", "work")
    assert len({line["request"] for line in lines(computer)}) == len(lines(computer)) == 5


def test_a_refused_certificate_is_a_line(computer, folder):
    late = folder / "late/operator"
    late.mkdir(parents=True)
    for name in ("authority.crt", "addresses"):
        (late / name).write_bytes((computer.folder / "operator" / name).read_bytes())
    subprocess.run([str(BUILD / "test/issue_credential"), str(computer.folder / "authority"), str(late), "late", "1"],
                   check=True)
    (late / "operator.key").chmod(0o600)
    assert Computer(late.parent, computer.port).unum("status", check=False).returncode == 1
    refused = after(computer, 0)[0]
    assert (refused["action"], refused["outcome"]) == ("Connect", "denied")
    assert refused["principal"].endswith("/operator/late") and "expired" in refused["text"]


def test_the_audit_goes_on_after_kill_9_and_a_torn_line(computer):
    computer.unum("run", "--name", "one", "--cpu", "0", "--", "sleep", "1000")
    after(computer, 0)
    daemon = computer.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    with (computer.folder / "data/audit.jsonl").open("a") as file:
        file.write('{"wall_ms":1')
    wait_until(lambda: computer.daemon_pid() not in (0, daemon))
    wait_until(lambda: computer.unum("stop", "one", check=False).returncode == 0)
    path = computer.folder / "data/audit.jsonl"
    told = wait_until(lambda: path.read_text().splitlines()[2:])
    assert path.read_text().splitlines()[1] == '{"wall_ms":1'
    assert json.loads(told[0])["action"] == "StopJob"
    assert path.stat().st_mode & 0o077 == 0

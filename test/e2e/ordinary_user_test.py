"""A computer of an ordinary user: without root it works, isolates less, and says so."""
import os
import shutil
import subprocess

import pytest

from conftest import BUILD, Computer, below, needs_root, wait_until

pytestmark = [needs_root,  # to become that user
              pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")]
USER = 12345


class OrdinaryComputer(Computer):
    """All commands of its user, with programs that this user may read."""

    def unum(self, *arguments, check=True, timeout=60):
        at = arguments.index("--") if "--" in arguments else len(arguments)
        command = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups",
                   str(self.folder.parent / "bin/unum"), *arguments[:at], "--dir", str(self.folder), *arguments[at:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd="/")
        if check:
            assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr}"
        return done


@pytest.fixture
def ordinary(folder):
    os.chown(folder, USER, USER)
    (folder / "bin").mkdir()
    for program in ("cli/unum", "node/unumd", "supervise/unum-init", "supervise/unum-log", "supervise/unum-stub"):
        shutil.copy(BUILD / "src" / program, folder / "bin")
    made = OrdinaryComputer(folder / "computer")
    if subprocess.run(["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "unshare", "-U", "true"],
                      capture_output=True).returncode != 0:
        pytest.skip("this kernel allows no user namespace without root")
    yield made
    if (made.folder / "up.pid").exists():
        made.down()


def test_an_ordinary_user_has_a_computer_that_says_what_it_lacks(ordinary):
    said = ordinary.up().stdout
    assert "Not started as root" in said
    assert all(os.stat(f"/proc/{pid}").st_uid == USER for pid in below(ordinary.outer_pid()))
    assert "not started as root" in ordinary.unum("machines", "-o", "json").stdout
    ordinary.unum("put", "greeting", "hello")
    assert ordinary.unum("get", "greeting").stdout.strip() == "hello"
    ordinary.unum("run", "--name", "plain", "--", "sh", "-c", "echo hello; exec sleep 1000")
    ordinary.unum("run", "--name", "apart", "--net", "private", "--", "sleep", "1000")
    for job in ("plain", "apart"):
        wait_until(lambda: ordinary.states(job) == ["running"])
        assert ordinary.unum("exec", f"{job}-0", "--", "hostname").stdout.strip() == f"{job}-0"
    wait_until(lambda: "hello" in ordinary.unum("logs", "plain").stdout)
    ordinary.unum("exec", "plain-0", "--", "sh", "-c", "kill -9 2", check=False)  # may go with it
    wait_until(lambda: [t["restarts"] for t in ordinary.tasks("plain")] == ["1"])
    victims = below(ordinary.outer_pid())
    ordinary.down(check=True)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in victims))

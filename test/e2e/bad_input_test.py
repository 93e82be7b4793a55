"""Bad input gets one clear sentence and the right exit status, and loses nothing."""
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

from conftest import BUILD, Computer, UNUM, UNUMD, free_port, needs_root, wait_until


def refused(done, *words, status=1):
    """One sentence on stderr that has WORDS in it, and the exit status."""
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    for word in words:
        assert word.lower() in done.stderr.lower(), done.stderr
    assert len(done.stderr.strip().splitlines()) <= 4, done.stderr


def apply(computer, folder, text):
    path = folder / "job.yaml"
    path.write_text(text)
    return computer.unum("apply", str(path), check=False)


@pytest.mark.parametrize("text,words", [
    ("job: [", ["line"]),
    ("name: x\ncommand: [/bin/true]\ncuont: 3\n", ["cuont", "count"]),
    ("name: x\ncommand: [/bin/true]\nresources: {cpu: 100000}\n", ["cpu"]),
    ("name: x\n", ["command"]),
    ("name: UPPER_case\ncommand: [/bin/true]\n", ["name"]),
    ("name: x\ncount: -1\ncommand: [/bin/true]\n", ["count"]),
    ("name: x\ncommand: [/bin/true]\nresources: {memory: 100Ti}\n", ["resources.memory"]),
    ("name: x\ncommand: [/bin/true]\nnetwork: private\nports: {web: 80}\nready: {tcp: web}\n",
     ["ready", "private network"]),
    ("name: x\ncommand: [/bin/true]\nports: {web: 70000}\n", ["line 3", "ports.web", "70000"]),
    ("name: x\ncommand: [/bin/true]\n---\nname: x\ncommand: [/bin/true]\n", ["twice"]),
    ("name: x\ncommand: [&a /bin/true, *a]\n", ["line 2"]),
    ("\x00\xff", ["byte 0"]),
])
def test_a_bad_job_file_is_refused_with_its_place(shared_computer, folder, text, words):
    refused(apply(shared_computer, folder, text), *words)


def test_a_missing_job_file_is_named(shared_computer):
    refused(shared_computer.unum("apply", "/nowhere/job.yaml", check=False), "/nowhere/job.yaml")


def test_a_missing_program_is_told_by_why(shared_computer, folder):
    assert apply(shared_computer, folder, "name: missing\ncommand: [/no/such/program]\n").returncode == 0
    wait_until(lambda: "/no/such/program" in shared_computer.unum("why", "missing-0", check=False).stdout)
    shared_computer.unum("stop", "missing")


def test_an_unknown_subcommand_suggests_the_closest(shared_computer):
    refused(subprocess.run([str(UNUM), "aply"], capture_output=True, text=True), "apply", status=2)


def test_a_taken_port_is_named(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        computer = Computer(folder / "computer", taken.getsockname()[1])
        refused(computer.up(check=False), str(computer.port))
        computer.down()


def test_a_second_computer_in_the_same_folder_is_refused(computer):
    done = computer.unum("up", "--background", "--address", f"127.0.0.1:{free_port()}", check=False)
    refused(done, "already")
    assert computer.unum("status").returncode == 0


def test_no_computer_is_said_with_the_way_on(folder):
    refused(Computer(folder / "none").unum("ps", check=False), "unum up")


def test_a_superblock_of_a_newer_version_is_refused(computer):
    computer.unum("put", "kept", "1")
    computer.down()
    superblock = computer.folder / "data/superblock"
    before = superblock.read_bytes()
    raise_version(superblock)
    refused(computer.up(check=False), "newer")
    superblock.write_bytes(before)
    computer.up()
    assert "1" in computer.unum("get", "kept").stdout


def raise_version(superblock):
    """The format version of both copies, with their checksums made right (docs/formats/superblock.md)."""
    subprocess.run(["python3", str(pathlib.Path(__file__).parent / "superblock_version.py"), str(superblock)], check=True)


def journal_files(computer):
    return sorted(path for path in (computer.folder / "data/journal").iterdir() if path.stat().st_size > 0)


def test_damage_in_the_journal_is_refused_with_its_offset_and_the_way_out(computer):
    for number in range(20):
        computer.unum("put", f"key/{number}", "x" * 1000)
    computer.pull_the_plug()
    copy = computer.folder.parent / "copy"
    shutil.copytree(computer.folder / "data/journal", copy)
    damaged = flip_early_record(journal_files(computer))
    done = computer.up(check=False)
    refused(done, "journal", "damaged at byte", "copy")
    shutil.rmtree(computer.folder / "data/journal")
    shutil.copytree(copy, computer.folder / "data/journal")
    give_back(computer.folder / "data/journal", damaged)
    computer.up()
    assert len(computer.json("get", "--prefix", "key/")["items"]) == 20


def give_back(folder, like):
    """The copy belongs to the daemon's user as the original did."""
    for path in [folder, *folder.iterdir()]:
        os.chown(path, like.st_uid, like.st_gid)


def flip_early_record(files):
    """One bit in the first record that holds a value of the test; returns the file's former stat."""
    for path in files:
        data = bytearray(path.read_bytes())
        at = data.find(b"x" * 100)
        if at >= 0:
            before = path.stat()
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([data[at] ^ 1]))
            return before
    raise AssertionError("no record of the test in the journal")


def daemon_by_hand(computer):
    return subprocess.run([str(UNUMD), "--dir", str(computer.folder)], capture_output=True, text=True, timeout=30)


def test_a_second_daemon_on_the_same_folder_is_refused(computer):
    computer.unum("put", "kept", "1")
    refused(daemon_by_hand(computer), "another daemon uses this folder")
    assert "1" in computer.unum("get", "kept").stdout


def test_the_daemon_by_hand_says_when_there_is_no_computer_and_how_it_is_used(folder):
    refused(daemon_by_hand(Computer(folder)), "no computer", "unum up")
    refused(subprocess.run([str(UNUMD), "--nonsense"], capture_output=True, text=True), "usage", status=2)


def test_a_torn_tail_of_the_journal_is_dropped_and_the_rest_is_there(computer):
    for number in range(20):
        computer.unum("put", f"key/{number}", "x" * 1000)
    time.sleep(0.2)  # longer than the pause after which the journal marks that all is synced
    computer.pull_the_plug()
    path, end = end_of_records(journal_files(computer), b"x" * 100)
    with path.open("r+b") as file:  # as a power cut in the middle of the next write leaves it
        file.seek(end + 5000 - end % 4096)
        file.write(os.urandom(700))
    computer.up()
    assert len(computer.json("get", "--prefix", "key/")["items"]) == 20


def test_a_journal_cut_short_before_what_was_synced_is_refused(computer):
    for number in range(20):
        computer.unum("put", f"key/{number}", "x" * 1000)
    time.sleep(0.2)
    computer.pull_the_plug()
    path, end = end_of_records(journal_files(computer), b"x" * 100)
    whole = path.read_bytes()
    os.truncate(path, end - 5000)
    refused(computer.up(check=False), "journal")
    with path.open("r+b") as file:
        file.write(whole)
    computer.up()
    assert len(computer.json("get", "--prefix", "key/")["items"]) == 20


def end_of_records(files, of):
    """The file and place behind the last record that holds OF."""
    found = [(path, path.read_bytes().rfind(of)) for path in files]
    path, at = max(found, key=lambda pair: pair[1])
    assert at >= 0
    return path, at + 1100


def test_garbage_on_the_port_disturbs_nobody(computer):
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 2000, b"\0" * 100, os.urandom(5000)):
        with socket.create_connection(("127.0.0.1", computer.port), timeout=5) as connection:
            connection.sendall(garbage)
            connection.settimeout(15)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert computer.unum("status").returncode == 0


def test_a_client_without_a_certificate_is_refused(computer):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", computer.port), timeout=5) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(plain) as stream:
                stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                if not stream.recv(1):
                    raise ConnectionError("closed")
    assert computer.unum("status").returncode == 0


def test_a_credential_of_another_computer_is_refused(computer, folder):
    other = Computer(folder / "other")
    other.up()
    try:
        done = subprocess.run([str(UNUM), "status", "--dir", str(other.folder), "--address",
                               f"127.0.0.1:{computer.port}"], capture_output=True, text=True, timeout=30)
        refused(done, "certificate")
    finally:
        other.down()


def copy_of_credential(computer, folder):
    """A folder that `--dir` takes, with a copy of the operator's credential."""
    copied = folder / "copied"
    shutil.copytree(computer.folder / "operator", copied / "operator")
    return Computer(copied, computer.port)


def issue(computer, where, name, expires_ms):
    subprocess.run([str(BUILD / "test/issue_credential"), str(computer.folder / "authority"), str(where), name,
                    str(expires_ms)], check=True)


def test_an_expired_certificate_is_refused_and_a_younger_one_is_not(shared_computer, folder):
    copied = copy_of_credential(shared_computer, folder)
    issue(shared_computer, copied.folder / "operator", "late", 1)
    wait_until(lambda: int(shared_computer.json("status")["computerTimeMs"]) > 1)
    refused(copied.unum("status", check=False), "certificate", "expired")
    issue(shared_computer, copied.folder / "operator", "fresh", 10**15)
    assert copied.unum("status").returncode == 0


@pytest.mark.parametrize("name", ["operator.crt", "operator.key", "authority.crt", "addresses"])
def test_a_missing_file_of_the_credential_is_named(shared_computer, folder, name):
    copied = copy_of_credential(shared_computer, folder)
    (copied.folder / "operator" / name).unlink()
    refused(copied.unum("status", check=False), name)


@pytest.mark.parametrize("name", ["operator.crt", "operator.key", "authority.crt", "addresses"])
def test_a_damaged_file_of_the_credential_is_named(shared_computer, folder, name):
    copied = copy_of_credential(shared_computer, folder)
    (copied.folder / "operator" / name).write_text("rubbish")
    done = copied.unum("status", check=False)
    refused(done)
    assert name in done.stderr or "certificate" in done.stderr or "key" in done.stderr, done.stderr


def test_a_key_that_others_can_read_is_refused_with_the_way_out(shared_computer, folder):
    copied = copy_of_credential(shared_computer, folder)
    (copied.folder / "operator/operator.key").chmod(0o644)
    refused(copied.unum("status", check=False), "operator.key", "chmod 600")


def test_plain_http_is_answered_with_a_sentence_or_closed(computer):
    with socket.create_connection(("127.0.0.1", computer.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.settimeout(15)
        told = b""
        try:
            while piece := connection.recv(4096):
                told += piece
        except ConnectionError:
            pass
    assert told == b"" or told[0] == 0x15 or b"TLS" in told  # closed, an alert, or words
    assert computer.unum("status").returncode == 0


@needs_root
def test_a_full_disk_refuses_writes_and_keeps_what_was_acknowledged(folder):
    mount = folder / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", str(mount)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    computer = Computer(mount / "computer")
    try:
        computer.up()
        computer.unum("put", "kept", "1")
        computer.unum("put", "gone", "1")
        subprocess.run(["dd", "if=/dev/zero", f"of={mount}/filler", "bs=1M"], capture_output=True)
        big = folder / "big"
        big.write_bytes(os.urandom(1000000))
        refusal = None
        for number in range(120):
            with big.open("rb") as file:
                done = subprocess.run([str(UNUM), "put", f"big/{number}", "-", "--dir", str(computer.folder)],
                                      stdin=file, capture_output=True, text=True, timeout=60)
            if done.returncode != 0:
                refusal = done
                break
        assert refusal is not None, "the disk never got full"
        refused(refusal, "the disk is full", "MiB left", "deletes still work")
        assert "1" in computer.unum("get", "kept").stdout
        refused(computer.unum("lease", "grant", "10s", check=False), "the disk is full")
        computer.unum("del", "gone")
        assert computer.unum("get", "gone", check=False).returncode == 1
        daemon = computer.daemon_pid()
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: computer.unum("get", "kept", check=False).stdout.strip().endswith("1"))
        refused(computer.unum("put", "kept", "2", check=False), "the disk is full")
        (mount / "filler").unlink()
        wait_until(lambda: computer.unum("put", "after", "2", check=False).returncode == 0, seconds=40)
        assert "1" in computer.unum("get", "kept").stdout
    finally:
        computer.down()
        subprocess.run(["umount", "-l", str(mount)])


@needs_root
def test_a_read_only_state_folder_is_refused(folder):
    mount = folder / "state"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", str(mount)], capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    computer = Computer(mount / "computer")
    try:
        computer.up()
        computer.down()
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        refused(computer.up(check=False), "read-only")
    finally:
        computer.down()
        subprocess.run(["umount", "-l", str(mount)])

"""Bad input gets one clear sentence and the right exit status, and loses nothing."""
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess

import pytest

from conftest import Computer, UNUM, free_port, needs_root, wait_until


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

"""The command line without a computer: help that is there, refusals that are one sentence and say what to do, and the
right exit status. Method: run it and compare whole texts. Environment: UNUM (the program), ROOT (the sources)."""
import os
import pathlib
import re
import subprocess

import pytest

UNUM = os.environ["UNUM"]
ROOT = pathlib.Path(os.environ["ROOT"])
SUBCOMMANDS = ("up down status machines apply plan run ps why logs exec stop restart get put del watch txn lease version "
               "help").split()


def unum(*arguments, input=None, **variables):
    environment = {**os.environ, "HOME": "/nowhere", **variables}
    return subprocess.run([UNUM, *arguments], capture_output=True, text=True, input=input, timeout=30, env=environment)


def refused(status, first_line, *arguments, **options):
    done = unum(*arguments, **options)
    assert (done.returncode, done.stderr.splitlines()[0], done.stdout) == (status, first_line, "")
    assert len(done.stderr.splitlines()) <= 2


def test_every_subcommand_teaches():
    overview = unum("help").stdout
    for name in SUBCOMMANDS:
        done = unum(name, "--help")
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout == unum("help", name).stdout
        assert f"Usage: unum {name}" in done.stdout
        assert re.search(rf"^  unum {name}", done.stdout, re.M), f"{name} has no example"
        assert re.search(rf"^  {name} ", overview, re.M)
        assert all(len(line) <= 110 for line in done.stdout.splitlines())


def test_docs_are_the_help():
    assert (ROOT / "docs/cli.md").read_text() == unum("help", "--markdown").stdout, \
        "write it anew: unum help --markdown > docs/cli.md"


def test_docs_have_every_key_of_a_job_file():
    docs = (ROOT / "docs/jobs.md").read_text()
    for where, text in [("", "zzzzzzzz: 1\n"), ("resources.", "resources: {zzzzzzzz: 1}\n"), ("restart.", "restart: {zzzzzzzz: 1}\n"),
                        ("stop.", "stop: {zzzzzzzz: 1}\n"), ("ready.", "ready: {zzzzzzzz: 1}\n")]:
        sentence = unum("plan", "-", input=text).stderr
        keys = sentence.split("known are: ")[1].strip().split(", ")
        for key in keys:
            assert f"`{where}{key}" in docs, f"docs/jobs.md lacks {where}{key}"


def test_no_arguments_show_the_overview():
    done = unum()
    assert done.returncode == 2 and "Subcommands:" in done.stderr


def test_an_unknown_subcommand_or_option_suggests_the_closest():
    refused(2, 'unum: there is no subcommand "aply"; did you mean apply?', "aply")
    refused(2, 'unum: there is no subcommand "frobnicate"', "frobnicate")
    refused(2, "unum run: there is no option --conut; did you mean --count?", "run", "--conut", "3", "--", "x")
    refused(2, "unum ps: there is no option -z", "ps", "-z")
    refused(2, "unum ps: --jobs takes no value", "ps", "--jobs=3")
    refused(2, "unum logs: -n needs a N", "logs", "web", "-n")
    refused(2, 'unum ps: --output must be text or json, is "xml"', "ps", "-o", "xml")


def test_wrong_arguments_are_told():
    refused(2, "unum apply: needs FILE...", "apply")
    refused(2, 'unum ps: "b" is one argument too many', "ps", "a", "b")
    refused(2, "unum ps: takes no command behind --", "ps", "--", "x")
    refused(2, "unum run: needs a command: unum run -- COMMAND ...", "run", "--count", "3")
    refused(2, "unum exec: needs a command: unum exec web-0 -- COMMAND ...", "exec", "web-0")


@pytest.mark.parametrize("arguments,sentence", [
    (["--count", "-1"], '--count must be a whole number from 0 to 10000, is "-1"'),
    (["--cpu", "lots"], '--cpu must be a number of cores like 0.5, 2 or 250m, is "lots"'),
    (["--memory", "0"], '--memory must be a size like 64Mi or 2Gi, is "0"'),
    (["--port", "8080"], '--port must be like http=8081 or http=8081+, is "8080"'),
    (["--port", "http=99999"], '--port must be like http=8081 or http=8081+, is "http=99999"'),
    (["--env", "A"], '--env must be like NAME=VALUE, is "A"'),
    (["--env", "A=1", "--env", "A=2"], "--env A is given twice"),
    (["--restart", "always"], '--restart must be permanent, transient or temporary, is "always"'),
    (["--ready", "udp:x"], '--ready must be none, notify, tcp:PORT or http:PORT/path, is "udp:x"'),
    (["--ready", "tcp:x"], "ready.port: the job has no ports; name one under ports"),
    (["--net", "bridge"], '--net must be host or private, is "bridge"'),
    (["--name", "A_b"], 'name: must be 1 to 58 of a-z, 0-9 and inner dashes, is "A_b"'),
    (["--count", "2", "--port", "http=80"], "ports.http: all 2 tasks would take port 80; write 80+ for one more in each "
     "task, or network: private"),
])
def test_a_wrong_flag_of_run_is_refused(arguments, sentence):
    refused(2, f"unum run: {sentence}", "run", *arguments, "--", "true")


@pytest.mark.parametrize("text,sentence", [
    ("job: [", "line 2, column 1: did not find expected node content while parsing a flow node"),
    ("name: x\ncommand: [/bin/true]\ncuont: 3\n", 'line 3, column 1: unknown key "cuont"; did you mean count?'),
    ("name: x\ncommand: [/bin/true]\nresources: {cpu: 100000}\n", "line 3, column 18: resources.cpu: must be a number of "
     'cores like 0.5, 2 or 250m, at most 1024, is "100000"'),
    ("name: x\n", 'line 1, column 1: command: must name a program, like [nginx, -g, "daemon off;"]'),
    ("", "no job in it; a job begins with name: and command:"),
])
def test_a_bad_job_file_is_refused_with_its_place(tmp_path, text, sentence):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    separator = ": "
    refused(1, f"unum apply: {path}{separator}{sentence}", "apply", str(path))
    refused(1, f"unum plan: standard input{separator}{sentence}", "plan", "-", input=text)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    refused(1, "unum apply: /nowhere/job.yaml: No such file or directory", "apply", "/nowhere/job.yaml")
    refused(1, f"unum apply: {tmp_path}: Is a directory", "apply", str(tmp_path))
    big = tmp_path / "big.yaml"
    big.write_text("#" * (1024 * 1024 + 1))
    refused(1, f"unum apply: {big}: larger than 1048576 bytes", "apply", str(big))


def test_a_job_given_twice_is_refused(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("name: x\ncommand: [y]\n")
    refused(1, "unum apply: the job x is given twice", "apply", str(path), str(path))


@pytest.mark.parametrize("arguments,sentence", [
    (["--then", "put a"], "--then must be like 'put KEY VALUE', 'get KEY' or 'del KEY', is \"put a\"; did you mean put?"),
    (["--then", "pt a b"], "--then must be like 'put KEY VALUE', 'get KEY' or 'del KEY', is \"pt a b\"; did you mean put?"),
    (["--if", "a == b", "--then", "del a"], "--if must be like 'KEY = VALUE', 'version(KEY) > 3', 'exists KEY' or "
     "'missing KEY', is \"a == b\""),
    (["--if", "version(a) = x", "--then", "del a"], '--if: version(a) is compared with a number, not with "x"'),
    (["--then", "put a 'b"], "--then: a quote is not closed: put a 'b"),
    (["--if", "exists a"], "needs something to do: --then 'put KEY VALUE'"),
])
def test_a_wrong_transaction_is_refused(arguments, sentence):
    refused(2, f"unum txn: {sentence}", "txn", *arguments)


def test_no_computer_is_said_with_the_way_on(tmp_path):
    refused(1, f"unum ps: there is no computer in {tmp_path}/c; `unum up --dir {tmp_path}/c` makes one, and --dir names "
            "another folder", "ps", "--dir", f"{tmp_path}/c")
    refused(1, f"unum status: there is no computer in {tmp_path}/d; `unum up` makes one, and --dir names another folder",
            "status", UNUM_DIR=f"{tmp_path}/d")
    refused(1, f"unum down: there is no computer in {tmp_path}/c; --dir names another folder", "down", "--dir", f"{tmp_path}/c")


def test_output_to_a_reader_that_left_ends_quietly():
    done = subprocess.run(["sh", "-c", f"{UNUM} help --markdown | head -1"], capture_output=True, text=True, timeout=30)
    assert done.stdout == "# The command line\n" and done.stderr == ""


def test_output_that_can_not_be_written_fails():
    with open("/dev/full", "w") as full:
        done = subprocess.run([UNUM, "help", "--markdown"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 1 and "No space left" in done.stderr


def test_no_colour_where_there_is_no_terminal():
    assert "\033" not in unum("help").stdout + unum("run", "--help").stdout

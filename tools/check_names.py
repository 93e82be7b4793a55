#!/usr/bin/env python3
"""What a reader meets first: files of at most 800 lines, functions of at most 70, no marks of unfinished
work, no path that exists only on the machine of whoever wrote the line.

Functions are found by the format (clang-format puts the braces of a function alone in the first column),
so this reads only what `check.sh format` accepts."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
# Put together, so that this file passes its own check.
MARKS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b|not impl" + "emented")
DEVELOPER_PATHS = re.compile(r"(?<![\w.}*/])/(work|home|Users|root)/[\w.-]+|/tmp/u[-]")
CODE = (".c", ".h", ".cc", ".S", ".py", ".sh")


def functions_of(lines):
    """Yield (first line, number of lines) of each function of a C file, its signature included."""
    start = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
            while start > 1 and re.match(r"[\w\s(*]", lines[start - 2]) and not lines[start - 2].rstrip().endswith(";"):
                start -= 1
        elif line.startswith("}") and start is not None:
            yield start, number - start + 1
            start = None


def check_file(name, text):
    lines = text.splitlines()
    if name.endswith(CODE) and len(lines) > FILE_LINES_MAX:
        yield f"{name}: {len(lines)} lines, at most {FILE_LINES_MAX}"
    if name.endswith((".c", ".cc")):
        for first, count in functions_of(lines):
            if count > FUNCTION_LINES_MAX:
                yield f"{name}:{first}: a function of {count} lines, at most {FUNCTION_LINES_MAX}"
    for number, line in enumerate(lines, 1):
        if MARKS.search(line):
            yield f"{name}:{number}: a mark of unfinished work: {line.strip()}"
        if DEVELOPER_PATHS.search(line):
            yield f"{name}:{number}: a path of one machine: {line.strip()}"


def main():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    failures, count = [], 0
    for name in filter(None, listed.stdout.split("\0")):
        try:
            text = (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # a seed of a fuzzer; a file that is about to go; a link to a folder
        count += 1
        failures += check_file(name, text)
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"names: {count} files, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

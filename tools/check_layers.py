#!/usr/bin/env python3
"""The include lint: each folder uses only what layers.txt allows, and only the named folders call
the operating system.

layers.txt lists the folders in order. A source file under src/FOLDER may include headers of its
own folder and of the folders above it (or of its explicit list). Roles never include each other.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Headers of the operating system that pure folders must not see.
SYSTEM = re.compile(
    r"#\s*include\s*<(unistd|fcntl|poll|pthread|signal|sched|spawn|dirent|netdb|liburing|"
    r"sys/(socket|stat|wait|mman|epoll|mount|ioctl|uio|file|syscall|un|eventfd|timerfd|signalfd|"
    r"prctl|resource|random|time|types)|arpa/\w+|netinet/\w+|linux/\w+|time|net/\w+)\.h>")
MAY_CALL_SYSTEM = {"reactor", "supervise"}
# The command line is a program of its own: it has the terminal, files and the start of unum-init.
DRIVER_FOLDERS = {"cli"}


def load_layers():
    order, allowed, roles = [], {}, set()
    for line in (ROOT / "layers.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, colon, listed = line.partition(":")
        role = name.startswith("~")
        name = name.lstrip("~").strip()
        if role:
            roles.add(name)
        if colon and listed.strip() == "*":
            allowed[name] = None
        elif colon:
            allowed[name] = set(listed.split())
        else:
            allowed[name] = set(order)
        order.append(name)
    for role in roles:
        allowed[role] -= roles
    return allowed


def folder_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "src" else parts[0]


def main():
    allowed = load_layers()
    failures = []
    files = sorted(list((ROOT / "src").rglob("*.[ch]")) + list((ROOT / "src").rglob("*.cc")))
    for path in files:
        folder = folder_of(path)
        text = path.read_text()
        name = path.relative_to(ROOT)
        if folder not in allowed:
            failures.append(f"{name}: folder {folder} is not in layers.txt")
            continue
        for number, line in enumerate(text.splitlines(), 1):
            include = re.match(r'#\s*include\s*"([^"/]+)/', line)
            if include and allowed[folder] is not None:
                # "unum/v1/X.pb-c.h" is generated from proto/.
                used = "proto" if include.group(1) == "unum" else include.group(1)
                test = path.name.endswith(("_test.c", "_fuzz.c"))
                if used != folder and used not in allowed[folder] and not (test and used in ("sim", "test")):
                    failures.append(f"{name}:{number}: {folder} must not use {used}")
            if (SYSTEM.match(line) and folder not in MAY_CALL_SYSTEM | DRIVER_FOLDERS
                    and not path.name.endswith(("_test.c", "_fuzz.c", "_bench.c", "_shim.cc"))):
                failures.append(f"{name}:{number}: only reactor/, supervise/ and the RocksDB shim "
                                f"call the operating system: {line.strip()}")
    for failure in failures:
        print(failure, file=sys.stderr)
    print(f"layers: {len(files)} files, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""Raise the format version of both copies of a superblock, as a newer release would have written it
(docs/formats/superblock.md): the version stands before the checksum, which covers bytes 16..127."""
import sys

path = sys.argv[1]
with open(path, "r+b") as file:
    for copy in (0, 4096):
        file.seek(copy + 12 - 4)
        version = int.from_bytes(file.read(4), "little")
        file.seek(copy + 12 - 4)
        file.write((version + 1).to_bytes(4, "little"))

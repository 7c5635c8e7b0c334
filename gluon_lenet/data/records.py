"""Files of a folder -> their bytes, mapped; which of them were hashed before and have not changed since."""

from __future__ import annotations

import json
import mmap
import os
import time
from pathlib import Path
from typing import BinaryIO

NAME = ".verified.json"

# A file may be written twice in one tick of the file system's clock: the times of one as young as this prove nothing
_TICK = 2_000_000_000  # nanoseconds, FAT's; others tick faster


class Records:
    """What is known of the files in a folder: the SHA-256 each had, and its size, times and inode at that moment.

    They are kept in the folder itself. Where that cannot be written, or the records cannot be read, files are hashed.
    """

    def __init__(self, folder: Path):
        self._path = folder / NAME
        self._changed = False
        try:
            self._entries = dict(json.loads(self._path.read_bytes()))
        except (OSError, ValueError, TypeError):
            self._entries = {}

    def has(self, name: str, state: os.stat_result, sha256: str) -> bool:
        """Whether the file called `name`, now in this state, was found to have this SHA-256."""
        return self._entries.get(name) == _entry(state, sha256)

    def add(self, name: str, state: os.stat_result, sha256: str, hashed: int) -> None:
        """Note a file's SHA-256; `hashed` is `time.time_ns()` when its hashing began, `state` was read before that."""
        if max(state.st_mtime_ns, state.st_ctime_ns) + _TICK < hashed:
            self._entries[name], self._changed = _entry(state, sha256), True

    def save(self) -> None:
        """Write what was added, whole or not at all; other processes may do the same, as all write what is true."""
        if not self._changed:
            return
        temporary = self._path.with_name(f"tmp{NAME}-{os.getpid()}-{time.monotonic_ns()}")
        try:
            temporary.write_text(json.dumps(self._entries, indent=1) + "\n")
            os.replace(temporary, self._path)
        except OSError:
            pass


def _entry(state: os.stat_result, sha256: str) -> dict:
    return {
        "sha256": sha256,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "ctime_ns": state.st_ctime_ns,
        "inode": state.st_ino,
    }


def map_file(file: BinaryIO) -> memoryview:
    """The bytes of an open file that is not empty, read-only, where the system's page cache has them."""
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

"""Results of trials <-> results.jsonl, to which whole lines are appended and from which none is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import msgspec

from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.fields import decode
from gluon_lenet.sweeps.trials import Result

RESULTS = "results.jsonl"


class ResultsFile:
    """The results in a folder, one JSON object a line; open for one process at a time.

    Args:
        folder: is made if it is not there.

    Attributes:
        by_key: the last result of each trial.

    Raises:
        InputError: another process has it open, a line is not a result, or the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike):
        self.path = Path(folder, RESULTS)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}; name another folder") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise InputError(
                f"{self.path}: another sweep writes to it; wait for its end, or name another folder"
            ) from None
        except OSError:
            pass  # a file system without locks
        try:
            self.by_key = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()

    def append(self, result: Result) -> None:
        """Write a result and flush it to disk; raises DiskError if that fails, and leaves no part of it."""
        rest, before = msgspec.json.encode(result) + b"\n", self._file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise DiskError(f"{self.path} cannot be written: {error.strerror}") from error
        self.by_key[result.key] = result

    def _read(self) -> dict[str, Result]:
        self._file.seek(0)
        data = self._file.read()
        *lines, rest = data.split(b"\n")
        if rest:  # the process was killed, or the disk full, in the middle of a line
            self._file.truncate(len(data) - len(rest))
        results = (decode(line, Result, f"{self.path}, line {number}") for number, line in enumerate(lines, 1))
        return {result.key: result for result in results}

"""A trial as JSON -> its result as JSON, computed by a process of its own, here or on a Dask worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import msgspec

from gluon_lenet.distributed import processes
from gluon_lenet.sweeps.trials import Result, Trial, result_of


class Processes:
    """Trials in processes of their own; `end` ends those that are running."""

    def __init__(self):
        self._lock, self._running, self._ended = threading.Lock(), set(), False

    def run(self, data: bytes) -> bytes:
        """The result of the trial `data`; waits for it."""
        trial, begun = msgspec.json.decode(data, type=Trial), time.monotonic()
        with tempfile.TemporaryFile() as errors:
            with self._lock:
                if self._ended:
                    return msgspec.json.encode(result_of(trial, error="ended", killed=True))
                process = processes.start(
                    [sys.executable, "-m", "gluon_lenet.sweeps"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
                self._running.add(process)
            try:
                answer, _ = process.communicate(data)
            finally:
                with self._lock:
                    self._running.discard(process)
                if process.poll() is None:  # an exception in this thread
                    processes.end([process], grace=0)
            result = _read(trial, answer, process.returncode, errors)
        result = msgspec.structs.replace(result, seconds=round(time.monotonic() - begun, 2))
        return msgspec.json.encode(result)

    def end(self) -> None:
        """Kill the running processes, which have nothing to save, and start no more."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        processes.end(running, grace=0)


class KilledError(Exception):
    """A trial's process was killed, perhaps with all of its job."""


def run(data: bytes) -> bytes:
    """`Processes.run` for a worker of Dask, whose end the process follows; raises KilledError, to be tried again."""
    answer = Processes().run(data)
    result = msgspec.json.decode(answer, type=Result)
    if result.killed:
        raise KilledError(result.error)
    return answer


def _read(trial: Trial, answer: bytes, status: int, errors) -> Result:
    if status == 0:
        return msgspec.json.decode(answer, type=Result)
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4096))
    lines = errors.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
    why = f"{processes.ending(status)}: {last.removeprefix('error: ')}" if status > 0 else processes.ending(status)
    return result_of(trial, error=why, killed=status < 0 or status == 128 + signal.SIGINT)

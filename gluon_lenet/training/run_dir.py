"""A run's directory: config.json, metrics.jsonl, curves.png, last.safetensors; files are written atomically."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gluon_lenet.atomic import read_regular, write_atomically
from gluon_lenet.errors import DiskError, InputError
from gluon_lenet.fields import decode
from gluon_lenet.training.config import RunConfig
from gluon_lenet.training.metrics import EpochResult

CONFIG, METRICS, CURVES = "config.json", "metrics.jsonl", "curves.png"
LAST, BEST = "last.safetensors", "best.safetensors"
_LARGEST = 2**26  # bytes of a config.json or metrics.jsonl


class RunDir:
    """The folder of one training run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._locked = None  # os.stat_result of the folder, while this process has it locked

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: str | Path | None, recipe: str) -> Iterator[RunDir]:
        """Make the folder `path`, or `runs/<recipe>-<time>` if it is None, and lock it as `lock` does.

        Existing files are never changed. Of two processes that name the same folder, one gets it.

        Raises:
            InputError: it is a file, holds a run already, is locked by another process, or cannot be written to.
        """
        with contextlib.ExitStack() as stack:
            try:
                if path is None:
                    path = _default_path(recipe)
                else:
                    Path(path).mkdir(parents=True, exist_ok=True)
                directory = stack.enter_context(cls(path).lock())
                directory._check_free()
            except (FileExistsError, NotADirectoryError):
                if os.path.islink(path) and not os.path.exists(path):
                    raise InputError(
                        f"run directory {path} is a link that leads to {os.readlink(path)}, which is not there"
                    ) from None
                raise InputError(f"run directory {path}: it, or a folder above it, is a file; name a folder") from None
            except OSError as error:
                raise InputError(f"run directory {path} cannot be written to: {error.strerror}; name another") from None
            yield directory

    def _check_free(self) -> None:
        taken = [name for name in (CONFIG, METRICS, CURVES, LAST, BEST) if os.path.lexists(self.path / name)]
        if taken:
            raise InputError(f"run directory {self.path} already holds a run ({taken[0]}); name a new folder")
        with tempfile.TemporaryFile(dir=self.path):
            pass  # so that a folder that cannot be written to fails now, not after the first epoch

    @contextlib.contextmanager
    def lock(self) -> Iterator[RunDir]:
        """Lock the folder against other processes; the system releases the lock whenever the process ends.

        Raises:
            InputError: there is no such folder, or another process has locked it.
        """
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{self.path} holds no run: {CONFIG}: {error.strerror}") from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise InputError(
                f"run directory {self.path}: another process is training there; wait for its end"
            ) from None
        except OSError:
            pass  # a file system without locks
        try:
            self._locked = os.fstat(folder)
            yield self
        finally:
            self._locked = None
            os.close(folder)

    def check_in_place(self) -> None:
        """Raise DiskError if the locked folder is no longer the one at its path."""
        if self._locked is None:
            return
        try:
            in_place = os.path.samestat(os.stat(self.path), self._locked)
        except OSError:
            in_place = False
        if not in_place:
            raise DiskError(f"run directory {self.path} was deleted, moved or replaced during training")

    def write_config(self, config: RunConfig) -> None:
        """Write everything needed to repeat the run."""
        write_atomically(self.path / CONFIG, config.to_json())

    def read_config(self) -> RunConfig:
        """The configuration in config.json; raises InputError if the folder holds no run."""
        path = self.path / CONFIG
        if not os.path.lexists(path):
            raise InputError(f"{self.path} holds no run: {CONFIG} is not there")
        return RunConfig.from_json(read_regular(path, _LARGEST), path)

    def is_unbegun(self) -> bool:
        """Whether there is only a configuration, because the process was killed right after writing it."""
        return not any(os.path.lexists(self.path / name) for name in (METRICS, CURVES, LAST, BEST))

    def remove_half_written(self) -> None:
        """Remove temporary files of a process that was killed in `write_atomically`."""
        for name in (CONFIG, METRICS, CURVES, LAST, BEST):
            for temporary in self.path.glob(f".{name}.*.tmp"):
                temporary.unlink(missing_ok=True)

    def append_metrics(self, result: EpochResult) -> None:
        """Append an epoch's result as one line and flush it to disk; raises DiskError if that fails."""
        self.check_in_place()
        path = self.path / METRICS
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(result.to_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DiskError(f"{path} cannot be written: {error.strerror}") from error

    def keep_metrics_before(self, epoch: int) -> list[EpochResult]:
        """The results of the epochs before `epoch`; later ones, of a run that was killed, are removed from the file.

        Raises:
            InputError: the file is damaged, or does not have one line for each of these epochs, in order.
        """
        path = self.path / METRICS
        data = read_regular(path, _LARGEST) if os.path.lexists(path) else b""
        *lines, rest = data.split(b"\n")  # a partial last line, if the process was killed
        history = [decode(line, EpochResult, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
        for number, result in enumerate(history, 1):
            if result.epoch != number:
                raise InputError(f"{path}, line {number}: epoch must be {number}, not {result.epoch}")
        if len(history) < epoch - 1:
            cut = f"; its last line, {rest.decode(errors='replace')!r:.40}, has no end of line" if rest else ""
            raise InputError(f"{path} lacks results of epochs before {epoch}, where {LAST} continues{cut}")
        history = history[: epoch - 1]
        if data:
            write_atomically(path, "".join(result.to_json() + "\n" for result in history).encode())
        return history


def _default_path(recipe: str) -> Path:
    """A new folder, named after the time; several runs may start in the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:
        path = Path("runs", f"{recipe}-{stamp}{suffix}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.is_dir():
                raise
            continue
        return path
    raise InputError(f"run directory {path} and all its like exist; name one by --run-dir")

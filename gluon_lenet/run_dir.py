"""A run's directory: config.json, metrics.jsonl, curves.png, last.safetensors; each file is whole or absent."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from pathlib import Path

from gluon_lenet.errors import InputError
from gluon_lenet.metrics import EpochResult
from gluon_lenet.recipes import Recipe

CONFIG, METRICS, CURVES = "config.json", "metrics.jsonl", "curves.png"
LAST, BEST = "last.safetensors", "best.safetensors"


class RunDir:
    """The folder of one training run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path | None, recipe: str) -> RunDir:
        """Make the folder `path`, or `runs/<recipe>-<time>` if it is None; what is already there is never touched.

        Raises:
            InputError: it is a file, holds a run already, or cannot be written to.
        """
        try:
            if path is not None:
                path = Path(path)
                path.mkdir(parents=True, exist_ok=True)
                taken = [name for name in (CONFIG, METRICS, CURVES, LAST, BEST) if (path / name).exists()]
                if taken:
                    raise InputError(f"run directory {path} already holds a run ({taken[0]}); name a new folder")
                with tempfile.TemporaryFile(dir=path):
                    pass  # to find out now, not after the first epoch, that nothing can be written there
                return cls(path)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:  # several runs may start in one second
                path = Path("runs", f"{recipe}-{stamp}{suffix}")
                try:
                    path.mkdir(parents=True)
                except FileExistsError:
                    if not path.is_dir():
                        raise
                    continue
                return cls(path)
            raise InputError(f"run directory {path} and all its like exist; name one by --run-dir")
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"run directory {path}: it, or a folder above it, is a file; name a folder") from None
        except OSError as error:
            raise InputError(f"run directory {path} cannot be written to: {error.strerror}; name another") from None

    @contextlib.contextmanager
    def alone(self):
        """While this holds, no other process may write here; the system lets go when the process ends, however it does.

        Raises:
            InputError: another process holds it.
        """
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise InputError(
                f"run directory {self.path}: another process is training there; wait for its end"
            ) from None
        except OSError:
            pass  # a file system that knows no locks
        try:
            yield
        finally:
            os.close(folder)

    def write_config(self, config: dict) -> None:
        """Write everything needed to repeat the run."""
        write_atomically(self.path / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())

    def read_config(self) -> dict:
        """What `write_config` wrote; raises InputError if the folder holds no run."""
        path = self.path / CONFIG
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            Recipe(**config["settings"])
            _ = [config[name] for name in ("recipe", "seed", "ctx", "threads", "backprop", "data_dir")]
            return config
        except OSError as error:
            raise InputError(f"{self.path} holds no run: {CONFIG}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no configuration this version can read: {error!r}") from None

    def remove_half_written(self) -> None:
        """Remove what a process that was killed in the middle of `write_atomically` left."""
        for name in (CONFIG, METRICS, CURVES, LAST, BEST):
            for temporary in self.path.glob(f".{name}.*.tmp"):
                temporary.unlink(missing_ok=True)

    def append_metrics(self, result: EpochResult) -> None:
        """Append an epoch's result as one line, on disk before this returns."""
        with open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(result.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_metrics_before(self, epoch: int) -> list[EpochResult]:
        """The results of the epochs before `epoch`; later ones, of a run that was killed, go from the file."""
        path = self.path / METRICS
        history = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                result = EpochResult(**json.loads(line))
            except (ValueError, TypeError):
                break  # a line that was cut when the process was killed
            if result.epoch < epoch:
                history.append(result)
        if len(history) != epoch - 1:
            raise InputError(f"{path} lacks results of epochs before {epoch}, where {LAST} goes on")
        if history or path.exists():
            write_atomically(path, "".join(result.to_json() + "\n" for result in history).encode())
        return history


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader, or a machine that loses power, finds the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

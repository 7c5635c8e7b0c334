"""Targets by name -> their counts; parallel processes try a limited number of cases each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.target import CASE

ROOT = Path(__file__).resolve().parents[2]
PATH = (ROOT, ROOT / "tests", ROOT / "tests" / "helpers")
PORTION = 10_000  # cases per process; each process has another seed
MEMORY_DISK = Path("/dev/shm")  # in memory, because writing to a disk would take most of the time


class FoundError(Exception):
    """A case that was neither rejected properly nor read as expected, or that killed its process."""


def fuzz(names: list[str], number: int, seed: int, lanes: int) -> Iterator[tuple[str, Counter | FoundError]]:
    """Try a number of cases of each target; yields its name and counts when all are done."""
    portions = [min(PORTION, number - done) for done in range(0, number, PORTION)]
    with ThreadPoolExecutor(lanes) as executor:
        futures = {
            name: [executor.submit(fuzz_portion, name, cases, seed + k) for k, cases in enumerate(portions)]
            for name in names
        }
        for name, parts in futures.items():
            try:
                yield name, sum((part.result() for part in parts), Counter())
            except FoundError as error:
                yield name, error


def fuzz_portion(name: str, number: int, seed: int) -> Counter:
    """Try a number of cases in a new process and an empty folder; raises FoundError with the failing case."""
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
        process = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-m", "fuzz.target", name, str(number), str(seed)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": ":".join(map(str, PATH)), "OMP_NUM_THREADS": "1", "LANGUAGE": "C"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if process.returncode == 0:
            return Counter(json.loads(process.stdout))
        case = Path(folder, CASE)
        end = f"exit status {process.returncode}"
        if process.returncode < 0:
            end = f"it ended by {signal.Signals(-process.returncode).name}"  # SIGALRM: it hung
        last = case.read_text(encoding="utf-8", errors="replace") if case.exists() else "none"
        raise FoundError(f"{name}, seed {seed}: {end}\n{process.stderr}\nthe last case was: {last}")

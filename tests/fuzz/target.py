"""A reader and random cases for it -> how many it accepted and rejected; an error for anything else.

`python -m fuzz.target NAME CASES SEED` is the process that `fuzz.lanes` starts: it may crash, hang or exhaust memory.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis.strategies import SearchStrategy

from gluon_lenet.errors import InputError
from random_cases import random_cases

SECONDS = 30  # a case may take; most take a thousandth of one
MEMORY = 2**30  # bytes that the cases may use, beyond those in use after the imports
CASE = "case"  # the file that holds the current case, as its repr


@dataclass(frozen=True)
class Target:
    """One reader of user input."""

    cases: SearchStrategy  # of the arguments of `read`
    read: Callable[[Any], Any]  # a case -> its value, or InputError; may write to the current folder
    holds: Callable[[Any, Any], None]  # a case, its value -> AssertionError unless it is as expected
    culprit: str = ""  # what the error message must name


def fuzz(target: Target, number: int, seed: int) -> Counter:
    """Try a number of cases in the current folder; raises for the smallest that was neither accepted nor rejected."""
    counts = Counter()
    with open(CASE, "wb", buffering=0) as record:

        @random_cases(number, of=seed)
        @given(target.cases)
        def try_case(case):
            record.truncate(0)
            os.pwrite(record.fileno(), repr(case).encode("utf-8", "backslashreplace"), 0)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)  # SIGALRM, which is not handled, kills the process
            counts[_try(target, case)] += 1
            signal.setitimer(signal.ITIMER_REAL, 0)

        try_case()
    return counts


def _try(target: Target, case: Any) -> str:
    try:
        value = target.read(case)
    except InputError as error:
        check_refusal(error, target.culprit)
        return "refused"
    target.holds(case, value)
    return "accepted"


def check_refusal(error: InputError, culprit: str) -> None:
    """Raise AssertionError unless it is one line that names the culprit, and not about lack of memory."""
    line = str(error)
    assert len(line.splitlines()) == 1, f"not one line: {line!r}"
    assert culprit in line, f"{culprit} is not named: {line!r}"
    assert "memory" not in line, f"it took too much: {line!r}"


def _limit_memory() -> None:
    with contextlib.suppress(FileNotFoundError):  # not on a Mac
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                limit = int(line.split()[1]) * 1024 + MEMORY
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main(name: str, number: str, seed: str) -> None:
    """Fuzz the target in the current folder, and print the counts."""
    target = importlib.import_module(f"fuzz.{name}").TARGET
    _limit_memory()
    print(json.dumps(fuzz(target, int(number), int(seed))))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Trials and a folder -> their results, those that the folder lacks computed in parallel."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import msgspec

from gluon_lenet.compat.threads import physical_cores
from gluon_lenet.errors import InputError
from gluon_lenet.fields import decode
from gluon_lenet.sweeps.process import Processes
from gluon_lenet.sweeps.results import ResultsFile
from gluon_lenet.sweeps.space import Space
from gluon_lenet.sweeps.trials import Result, Trial

RUNS = "runs"  # folder of the run directories that are kept


@dataclasses.dataclass(frozen=True)
class Options:
    """How trials are run.

    Args:
        jobs: processes at a time, or Slurm jobs; None for as many as there are physical cores for their threads, or
            for `cluster.SLURM_JOBS`.
        on: the address of a Dask scheduler, whose workers run the trials; "slurm" runs them as Slurm jobs, None here.
        keep: whether to keep each run's directory, `runs/KEY` in the folder.
        retry: whether to run trials again that failed.
    """

    jobs: int | None = None
    on: str | None = None
    keep: bool = False
    retry: bool = False


class Watcher:
    """Is notified of a sweep's progress. This base class does nothing."""

    def begin(self, done: int, total: int) -> None:
        """Called before the first trial: how many of them the folder has, and how many there are."""

    def result(self, result: Result) -> None:
        """Called when a result has been written."""


def sweep(
    what: Space | dict | Sequence[Trial],
    folder: str | os.PathLike,
    options: Options = Options(),
    watcher: Watcher | None = None,
) -> list[Result]:
    """The results of all trials, in order; those that `folder` has are not computed again.

    A notebook calls it with a dictionary: `sweep({"set": {"lr": [0.1, 0.9]}, "seeds": 3}, "sweeps/lr")`.

    Args:
        what: a `Space`, a dictionary of its fields, or trials.
        folder: of results.jsonl; it is made if it is not there.
        options: how to run them.
        watcher: is notified of each result.

    Raises:
        InputError: the space is wrong, or the folder cannot be used.
        DiskError: a result cannot be written.
    """
    if isinstance(what, dict):
        what = decode(msgspec.json.encode(what), Space, "the space")
    trials = what.trials() if isinstance(what, Space) else list(what)
    watcher = watcher or Watcher()
    with ResultsFile(folder) as file:
        lacking = {trial.key: trial for trial in trials if _is_lacking(file.by_key.get(trial.key), options.retry)}
        if options.keep:
            runs = Path(folder).absolute() / RUNS
            lacking = {key: msgspec.structs.replace(trial, run_dir=str(runs / key)) for key, trial in lacking.items()}
        keys = {trial.key for trial in trials}
        data = [_encoded(trial) for trial in lacking.values()]
        threads = max((trial.threads for trial in lacking.values()), default=1)
        watcher.begin(len(keys) - len(lacking), len(keys))
        for result in _results(data, threads, options, Path(folder)):
            file.append(result)
            watcher.result(result)
        return [file.by_key[trial.key] for trial in trials]


def _is_lacking(result: Result | None, retry: bool) -> bool:
    return result is None or result.killed or (retry and result.error is not None)


def _encoded(trial: Trial) -> bytes:
    try:
        return msgspec.json.encode(trial)
    except UnicodeEncodeError:  # it has no other text that is not checked
        raise InputError("the name of --data-dir or --folder is not valid UTF-8; name another") from None


def _results(data: list[bytes], threads: int, options: Options, folder: Path) -> Iterator[Result]:
    if not data:
        return
    if options.on is None:
        jobs = options.jobs or max(1, physical_cores() // threads)
        answers = _here(data, jobs)
    else:
        from gluon_lenet.sweeps.cluster import run_on  # here: it needs Dask, an extra

        answers = run_on(options.on, data, threads, options.jobs, folder)
    for answer in answers:
        yield msgspec.json.decode(answer, type=Result)


def _here(data: Iterable[bytes], jobs: int) -> Iterator[bytes]:
    """The answers as they come; the processes are ended if the caller ends early."""
    started = Processes()
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(started.run, item) for item in data]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            started.end()

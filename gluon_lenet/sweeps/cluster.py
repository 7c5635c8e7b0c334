"""Trials and a Dask scheduler, or Slurm -> their results, computed by Dask's workers, one process a trial.

Dask rather than Ray or submitit: docs/distributed.md has the comparison. A worker that dies gives its trials back to
the scheduler, which hands them to another one.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gluon_lenet.errors import DataError, InputError
from gluon_lenet.sweeps import process
from gluon_lenet.sweeps.trials import Trial, result_of

SLURM = "slurm"  # in place of an address
SLURM_JOBS = 16  # at a time, unless --jobs says otherwise
_MEMORY = "2GB"  # of a job, unless Dask's configuration says otherwise; a training takes 0.4
_PATIENCE = 30  # seconds until there must be a scheduler, and a worker


def run_on(where: str, data: Sequence[bytes], jobs: int | None, folder: Path) -> Iterator[bytes]:
    """The results of the trials `data`, both as JSON, as they come.

    Args:
        where: the address of a Dask scheduler, or SLURM.
        data: the trials.
        jobs: Slurm jobs at a time; None for SLURM_JOBS.
        folder: for Slurm's output and keys; the nodes must see it.

    Raises:
        InputError: Dask is not installed here, the address is wrong, there is no scheduler or worker, or Slurm does not
            take such jobs.
        DataError: the scheduler is lost meanwhile.
    """
    try:
        from distributed.client import FutureCancelledError

        from distributed import as_completed
    except ImportError:
        raise InputError("--on needs Dask: pip install 'gluon_lenet[cluster]'") from None
    logging.getLogger("distributed").setLevel(logging.ERROR)  # connections come and go with the workers
    with _slurm(data, jobs, folder) if where == SLURM else _scheduler(where) as client:
        futures = {client.submit(process.run, item, pure=False): item for item in data}
        try:
            for future, answer in as_completed(list(futures), loop=client.loop, with_results=True, raise_errors=False):
                if future.status == "cancelled" or isinstance(answer, FutureCancelledError):
                    raise DataError(f"the Dask scheduler at {where} is lost; repeat the command to go on")
                if future.status == "error":  # the workers died that tried it, or lack this package
                    _, error, _ = answer
                    trial = msgspec.json.decode(futures[future], type=Trial)
                    answer = msgspec.json.encode(result_of(trial, error=_line(error), killed=True))
                yield answer
        finally:
            client.cancel(list(futures), force=True)


@contextmanager
def _scheduler(address: str):
    """A client of the scheduler at `address`, which has workers."""
    from distributed import Client

    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, asyncio.TimeoutError) as error:  # the last is an OSError from Python 3.11 on
        raise InputError(f"--on {address}: there is no Dask scheduler: {error}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except (TimeoutError, asyncio.TimeoutError):
            raise InputError(
                f"--on {address}: the scheduler has no workers; start some: dask worker {address} --nthreads N"
            ) from None
        yield client


@contextmanager
def _slurm(data: Sequence[bytes], jobs: int | None, folder: Path):
    """A client of a scheduler in this process, whose workers are Slurm jobs of one trial at a time; they may queue."""
    if shutil.which("sbatch") is None:
        raise InputError("--on slurm: there is no sbatch here; sweep from a machine that submits jobs to Slurm")
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        import dask
        from dask_jobqueue import SLURMCluster

        from distributed import Client
    except ImportError:
        raise InputError("--on slurm needs dask-jobqueue: pip install 'gluon_lenet[cluster]'") from None
    finally:
        signal.signal(signal.SIGINT, interrupt)  # dask-jobqueue's import sets a handler that exits with status 0
    logs = folder.absolute() / SLURM
    logs.mkdir(exist_ok=True)
    threads = max(msgspec.json.decode(item, type=Trial).threads for item in data)
    given = {name: dask.config.get(f"jobqueue.slurm.{name}", None) for name in ("memory", "log-directory")}
    cluster = SLURMCluster(
        cores=1,  # of a worker: the trials that it runs at a time
        processes=1,
        job_cpu=threads,
        memory=given["memory"] or _MEMORY,
        nanny=False,
        worker_extra_args=[*(dask.config.get("jobqueue.slurm.worker-extra-args", None) or ()), "--no-dashboard"],
        security=True,  # others can reach the ports; Dask runs what it is sent
        shared_temp_directory=str(logs),  # of the keys, readable by the user alone
        log_directory=given["log-directory"] or str(logs),
        scheduler_options={
            "dashboard_address": "127.0.0.1:0",
            **dask.config.get("jobqueue.slurm.scheduler-options", {}),
        },
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        _check(cluster.job_script())
        # anew for each job that is lost or reaches its time limit, as long as there are trials to do
        cluster.adapt(minimum_jobs=0, maximum_jobs=min(jobs or SLURM_JOBS, len(data)), interval="2s")
        yield client


def _check(script: str) -> None:
    """Raise InputError if Slurm does not take such jobs."""
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
        why = lines[0].removeprefix("sbatch: ").removeprefix("error: ")
        raise InputError(f"--on slurm: sbatch refuses the job: {why}")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

"""Trials and a Dask scheduler, or Slurm -> their results, computed by Dask's workers, one process a trial.

Dask rather than Ray or submitit: docs/distributed.md has the comparison. A worker that dies gives its trials back to
the scheduler, which hands them to another one.
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from gluon_lenet.errors import DataError, InputError
from gluon_lenet.sweeps import process
from gluon_lenet.sweeps.trials import Trial, result_of

SLURM = "slurm"  # in place of an address
SLURM_JOBS = 16  # at a time, unless --jobs says otherwise
_MEMORY = "2GB"  # of a job, unless Dask's configuration says otherwise; a training takes 0.4
_PATIENCE = 30  # seconds until there must be a scheduler, and a worker
_ABSENCE = 60  # seconds that a scheduler may be without workers
_LOOK = 10  # seconds between two looks at Slurm's queue; its controller serves all users
_RETRIES = 3  # of a trial whose process was killed, as of one whose worker died; of jobs that end at once


def run_on(where: str, data: Sequence[bytes], threads: int, jobs: int | None, folder: Path) -> Iterator[bytes]:
    """The results of the trials `data`, both as JSON, as they come.

    Args:
        where: the address of a Dask scheduler, or SLURM.
        data: the trials.
        threads: the cores that a Slurm job asks for.
        jobs: Slurm jobs at a time; None for SLURM_JOBS.
        folder: for Slurm's output and keys; the nodes must see it.

    Raises:
        InputError: Dask is not installed here, the address is wrong, there is no scheduler or worker, or Slurm does not
            take such jobs.
        DataError: the scheduler or all workers are lost meanwhile, or Slurm's jobs end before they do anything.
    """
    try:
        from distributed.client import FutureCancelledError

        from distributed import as_completed
    except ImportError:
        raise InputError("--on needs Dask: pip install 'gluon_lenet[cluster]'") from None
    logging.getLogger("distributed").setLevel(logging.ERROR)  # connections come and go with the workers
    jobs = min(jobs or SLURM_JOBS, len(data))
    with _slurm(threads, jobs, folder) if where == SLURM else _scheduler(where) as (client, look):
        futures = {client.submit(process.run, item, pure=False, retries=_RETRIES): item for item in data}
        try:
            for future, answer in _completed(
                as_completed(list(futures), loop=client.loop, with_results=True, raise_errors=False), look
            ):
                if future.status == "cancelled" or isinstance(answer, FutureCancelledError):
                    raise DataError(f"the Dask scheduler at {where} is lost; repeat the command to go on")
                if future.status == "error":  # the workers died that tried it, or lack this package
                    _, error, _ = answer
                    trial = msgspec.json.decode(futures[future], type=Trial)
                    answer = msgspec.json.encode(result_of(trial, error=_line(error), killed=True))
                yield answer
        finally:
            client.cancel(list(futures), force=True)


def _completed(coming, look) -> Iterator[tuple]:
    """Futures and their results as they come; meanwhile `look` is called, which raises if none can come."""
    while not coming.is_empty():
        yield from coming.next_batch(block=False)
        look()
        time.sleep(0.1)


@contextmanager
def _scheduler(address: str):
    """A client of the scheduler at `address`, which has workers, and what raises DataError if it has none any more."""
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
        seen = looked = time.monotonic()

        def look():
            nonlocal seen, looked
            if time.monotonic() - looked < 1.0:
                return
            looked = time.monotonic()
            with suppress(OSError):  # of a scheduler that is lost just now, which the futures tell
                if client.status != "running" or client.scheduler_info()["workers"]:
                    seen = looked
            if looked - seen > _ABSENCE:
                raise DataError(f"the scheduler at {address} has lost all workers; start some, and repeat the command")

        yield client, look


@contextmanager
def _slurm(threads: int, jobs: int, folder: Path):
    """A client of a scheduler in this process, whose workers are Slurm jobs of one trial at a time; they may queue.

    Also what looks after these jobs, `_Jobs.look`.
    """
    if shutil.which("sbatch") is None:
        raise InputError("--on slurm: there is no sbatch here; sweep from a machine that submits jobs to Slurm")
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        import dask
        from dask_jobqueue import SLURMCluster
        from dask_jobqueue.slurm import SLURMJob

        from distributed import Client, Status
    except ImportError:
        raise InputError("--on slurm needs dask-jobqueue: pip install 'gluon_lenet[cluster]'") from None
    finally:
        signal.signal(signal.SIGINT, interrupt)  # dask-jobqueue's import sets a handler that exits with status 0
    logs = folder.absolute() / SLURM
    logs.mkdir(exist_ok=True)

    def configured(name: str, otherwise):
        return dask.config.get(f"jobqueue.slurm.{name}", None) or otherwise

    output = configured("log-directory", str(logs))

    class Job(SLURMJob):
        refused = None  # why sbatch did not take the last one

        def job_script(self):  # the folder's name may have spaces
            return super().job_script().replace(str(logs), shlex.quote(str(logs)))

        async def start(self):
            try:
                await super().start()
            except RuntimeError as error:  # which Dask would only log; `_Jobs` sees that Slurm has no such job
                Job.refused = _complaint(str(error).partition("stderr:")[2])
                self.status = Status.running

        async def close(self):
            await super().close()
            self.status = Status.closed  # which Dask checks at the end, and dask-jobqueue forgets

    cluster = SLURMCluster(
        job_cls=Job,
        # exec: a worker of Dask may hang while it ends, and Slurm kills the job's first process for certain
        python=f"exec {configured('python', shlex.quote(sys.executable))}",
        cores=1,  # of a worker: the trials that it runs at a time
        processes=1,
        job_cpu=threads,
        memory=configured("memory", _MEMORY),
        nanny=False,
        worker_extra_args=[*configured("worker-extra-args", []), "--no-dashboard"],
        security=True,  # others can reach the ports; Dask runs what it is sent
        shared_temp_directory=str(logs),  # of the keys, readable by the user alone
        log_directory=output,
        # a dashboard's server runs without one, too; its usual port may be taken, and is open to all
        scheduler_options={
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            **configured("scheduler-options", {}),
        },
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        _check(cluster.job_script())
        # anew for each job that is lost or reaches its time limit, as long as there are trials to do
        cluster.adapt(minimum_jobs=0, maximum_jobs=jobs, interval="2s")
        yield client, _Jobs(cluster, Path(output)).look


class _Jobs:
    """The jobs of a cluster, looked after: Dask replaces those whose worker is lost, but not those that had none yet.

    Args:
        cluster: a SLURMCluster that adapts to its trials.
        logs: the folder of its jobs' output.
    """

    def __init__(self, cluster, logs: Path):
        self._cluster, self._logs = cluster, logs
        self._looked, self._missing, self._failed = time.monotonic(), set(), 0

    def look(self) -> None:
        """Replace jobs that Slurm does not have at two looks; raise DataError if that does not help."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i"]
        queue = subprocess.run(command, capture_output=True, text=True)
        if queue.returncode:  # the controller does not answer; it may do so later
            return
        if self._cluster.scheduler_info["workers"]:
            self._failed = 0
        ids = set(queue.stdout.split())
        gone = {name: job for name, job in list(self._cluster.workers.items()) if job.job_id not in ids}
        lost = {name: job for name, job in gone.items() if job in self._missing}
        self._missing = set(gone.values()) - set(lost.values())
        if not lost:
            return
        self._failed += 1
        if self._failed == _RETRIES:
            raise DataError(
                f"--on slurm: {self._why(next(iter(lost.values())))}, {_RETRIES} times in a row; output of jobs is in "
                f"{self._logs}; repeat the command to go on"
            )
        self._cluster.loop.add_callback(self._cluster.scale_down, list(lost))  # and up again, as it adapts

    def _why(self, job) -> str:
        if job.job_id is None:
            return f"sbatch refuses a job: {job.refused}"
        said = [file.read_text(errors="replace") for file in self._logs.glob(f"*-{job.job_id}.err")]
        return f"job {job.job_id} ended before its worker came: {_complaint(''.join(said), last=True)}"


def _check(script: str) -> None:
    """Raise InputError if Slurm does not take such jobs."""
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"--on slurm: sbatch refuses the job: {_complaint(done.stderr)}")


def _complaint(text: str, last: bool = False) -> str:
    """The first line of what a program said, or the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return lines[-1 if last else 0].removeprefix("sbatch: ").removeprefix("error: ")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

"""Trials and the address of a Dask scheduler -> their results, computed by its workers, one process a trial.

Dask rather than Ray or submitit: docs/distributed.md has the comparison. A worker that dies gives its trials back to
the scheduler, which hands them to another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from gluon_lenet.errors import DataError, InputError
from gluon_lenet.sweeps import process
from gluon_lenet.sweeps.trials import Trial, result_of

_PATIENCE = 30  # seconds until there must be a scheduler, and a worker


def run_on(address: str, data: Sequence[bytes]) -> Iterator[bytes]:
    """The results of the trials `data`, both as JSON, as they come.

    Raises:
        InputError: Dask is not installed here, the address is wrong, or there is no scheduler or worker.
        DataError: the scheduler is lost meanwhile.
    """
    try:
        from distributed.client import FutureCancelledError

        from distributed import Client, as_completed
    except ImportError:
        raise InputError("--on needs Dask: pip install 'gluon_lenet[cluster]'") from None
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
        futures = {client.submit(process.run, item, pure=False): item for item in data}
        try:
            for future, answer in as_completed(list(futures), loop=client.loop, with_results=True, raise_errors=False):
                if future.status == "cancelled" or isinstance(answer, FutureCancelledError):
                    raise DataError(f"the Dask scheduler at {address} is lost; repeat the command to go on")
                if future.status == "error":  # the workers died that tried it, or lack this package
                    _, error, _ = answer
                    trial = msgspec.json.decode(futures[future], type=Trial)
                    answer = msgspec.json.encode(result_of(trial, error=_line(error), killed=True))
                yield answer
        finally:
            client.cancel(list(futures), force=True)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

"""A gang -> what a worker trains with, where it keeps its files, and what it reports."""

from __future__ import annotations

import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gluon_lenet.data.batches import Batches
from gluon_lenet.distributed.engine import Sharing, share
from gluon_lenet.distributed.environment import config_of, is_launched, is_restarted
from gluon_lenet.distributed.gang import Gang
from gluon_lenet.distributed.messages import BEAT, Beat
from gluon_lenet.distributed.trainer import build_trainer
from gluon_lenet.errors import InputError
from gluon_lenet.training.loop import Data, Loop
from gluon_lenet.training.run_dir import CONFIG, LAST, METRICS, RunDir
from gluon_lenet.training.setup import Setup

_INTERVAL = 0.5  # seconds between two reports
# Seconds to wait for the other processes, without a launcher that watches them
_PATIENCE = {"joining": 600.0, "waiting": 120.0, "testing": 120.0, "ending": 120.0}


class GangSetup(Setup):
    """A `Setup` whose net is trained by all workers of a gang; the recipe's batches are those of all together.

    Raises:
        InputError: also if there are more workers than images in a batch or in the test set.
    """

    def __init__(self, gang: Gang, **others):
        self.gang, self.gang_config = gang, gang.config
        super().__init__(**others)
        if self.recipe.batch_size < gang.num_workers:
            raise InputError(f"batch size {self.recipe.batch_size} is too small for {gang.num_workers} workers")
        self.trainer = build_trainer(gang, self.recipe, self.net, len(self.data.train))
        self.engine = Sharing(self.engine, gang)
        if gang.config.kvstore == "dist_sync":
            self.data = Data(self.data.train, self._share(self.data.test), self._share(self.data.validation))

    def loop(self) -> Loop:
        """See Setup; asynchronous steps all divide by the batch size, also that of a smaller last batch."""
        if self.gang.config.kvstore == "dist_sync":
            return super().loop()
        return Loop(self.trainer, self.engine, self.recipe.batch_size, self.seed)

    def _share(self, batches: Batches | None) -> Batches | None:
        """This worker's part of the images that nets are tested with."""
        if batches is None:
            return None
        if batches.num_examples < self.gang.num_workers:
            raise InputError(
                f"{batches.num_examples} images to test with are too few for {self.gang.num_workers} workers"
            )
        part = share(batches.num_examples, self.gang.rank, self.gang.num_workers)
        return self._batches(batches.images[part], batches.labels[part])


@contextmanager
def join(kvstore: str, compression: str | None) -> Iterator[Gang]:
    """This process as one of the gang's workers, as its environment says; it reports until the block ends.

    Raises:
        InputError: the environment lacks something.
    """
    gang = Gang(config_of(os.environ, kvstore, compression))
    reporter = Reporter(gang)
    try:
        gang.meet()
        yield gang
    finally:
        reporter.end()


def begun(gang: Gang, path: str | None) -> bool:
    """Whether this gang was started again after a failure, and has a run in `path` to go on with."""
    if path is None or not is_restarted() or not gang.config.is_exact:
        return False
    own = b"yes" if Path(path, CONFIG).exists() else b""
    return gang.gather(own)[0].startswith(b"yes")


@contextmanager
def resumed(gang: Gang, path: str) -> Iterator[RunDir]:
    """The run in `path`, locked by the worker of rank 0; each of the others gets a copy that is deleted afterwards.

    Raises:
        InputError: there is no run, another process trains it, or it cannot be resumed to the bit.
    """
    if not gang.config.is_exact:
        raise InputError(f"--resume {path}: a run by {gang.config.kvstore} with lossy gradients cannot be resumed")
    names = (CONFIG, METRICS, LAST)
    if gang.rank == 0:
        with RunDir(path).lock() as directory:
            for name in names:
                file = directory.path / name
                gang.broadcast(file.read_bytes() if file.exists() else b"")
            yield directory
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if data := gang.broadcast(None):
                Path(folder, name).write_bytes(data)
        with RunDir(folder).lock() as directory:
            yield directory


@contextmanager
def created(gang: Gang, path: str | None, name: str) -> Iterator[RunDir]:
    """`RunDir.create` for the worker of rank 0; each of the others gets a folder that is deleted afterwards."""
    if gang.rank == 0:
        with RunDir.create(path, name) as directory:
            yield directory
        return
    with tempfile.TemporaryDirectory() as folder, RunDir.create(folder, name) as directory:
        yield directory


class Reporter:
    """Tells the launcher twice a second what this worker does and how far it has got: a marked line on stdout.

    Without a launcher, it ends the process when the others have not answered for two minutes, ten at the start: one of
    them is dead.
    """

    def __init__(self, gang: Gang):
        self.gang = gang
        self._ended = threading.Event()
        threading.Thread(target=self._report, daemon=True).start()

    def end(self) -> None:
        """Report no more."""
        self._ended.set()

    def _report(self) -> None:
        while not self._ended.wait(_INTERVAL):
            gang, seconds = self.gang, time.monotonic() - self.gang.since
            if is_launched():
                beat = Beat(
                    rank=gang.rank,
                    state=gang.state,
                    seconds=seconds,
                    epoch=gang.progress.epoch,
                    batch=gang.progress.batch,
                    num_batches=gang.size[0],
                    num_epochs=gang.size[1],
                )
                os.write(1, BEAT + msgspec.json.encode(beat) + b"\n")
            elif seconds > (limit := _PATIENCE.get(gang.state, math.inf)):
                print(
                    f"error: worker {gang.rank}: {gang.state}, no answer for {limit:.0f} s; a process is dead",
                    file=sys.stderr,
                )
                os._exit(1)

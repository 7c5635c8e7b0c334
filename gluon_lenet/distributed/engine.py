"""An engine and a gang -> an engine that computes a share of each batch, and totals over all workers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from mxnet.gluon import Trainer

from gluon_lenet.data.batches import Batch, Batches
from gluon_lenet.distributed.gang import Gang
from gluon_lenet.distributed.trainer import GangTrainer
from gluon_lenet.engines import base
from gluon_lenet.engines.base import Engine, Pending, StepResult, Totals
from gluon_lenet.training.loop import DivergedError

_NUMBERS = struct.Struct("<ddq")  # of Totals
_FIRST = 3  # calls in which MXNet and the kernels still compile and allocate: `batches`, and two steps, one ahead


class OutOfStepError(DivergedError):
    """The workers' weights are not the same."""


class Share(NamedTuple):
    """A worker's share of a batch."""

    batch: Batch
    whole: int  # images of the whole batch


class Nothing:
    """The result of a step to which this worker had no image to contribute: see `base.Pending`."""

    def wait(self) -> StepResult:
        """See `base.Pending`."""
        return StepResult(Totals(0.0, 0, 0), True)


def share(num_images: int, rank: int, num_workers: int) -> slice:
    """A worker's part of that many images: parts of nearly equal size, in order, none twice."""
    return slice(num_images * rank // num_workers, num_images * (rank + 1) // num_workers)


class Sharing:
    """Computes this worker's share of each batch by another engine; see `base.Engine` for the methods.

    Every worker draws the same order of the images and takes its part of each batch, so that the sum of the workers'
    gradients is that of the whole batch, each image is used once in every epoch, and all take the same number of steps.
    """

    def __init__(self, engine: Engine, gang: Gang):
        self.engine, self.gang, self.name = engine, gang, engine.name
        self._trainer, self._steps = None, 0

    def __str__(self) -> str:
        return str(self.engine)

    def adopt(self, trainer: Trainer) -> None:
        """See `base.Engine`."""
        self._trainer = trainer
        self.engine.adopt(trainer)

    def batches(self, data_iter: Batches) -> Iterator[Share]:
        """See `base.Engine`; the shares of the batches."""
        self.engine.batches(data_iter)  # checks the labels
        self._enter_step()
        for batch in data_iter.batches():
            rows = batch.rows[share(len(batch.rows), self.gang.rank, self.gang.num_workers)]
            yield Share(batch._replace(rows=rows), len(batch.rows))

    def seed(self, seed: int, epoch: int, batch: int) -> None:
        """See `base.Engine`; each worker draws other numbers."""
        self.engine.seed(seed, epoch, batch * self.gang.num_workers + self.gang.rank)

    def backprop(self, batch: Share) -> Pending:
        """See `base.Engine`."""
        return self.engine.backprop(batch.batch)

    def step(self, batch: Share, trainer: Trainer, batch_size: int | None = None) -> Pending:
        """See `base.Engine`; by default divides by the number of images in the whole batch."""
        self._enter_step()
        batch_size = batch.whole if batch_size is None else batch_size
        if len(batch.batch.rows):
            return self.engine.step(batch.batch, trainer, batch_size)
        for param in trainer._params:  # the last batch has fewer images than there are workers
            if param.grad_req != "null":
                for gradient, weight in zip(param.list_grad(), param.list_data(), strict=True):
                    gradient[:] = 0
                    weight._fresh_grad = True
        base.update(trainer, batch_size, batch.whole)
        return Nothing()

    def _enter_step(self) -> None:
        self.gang.enter("computing" if self._steps > _FIRST else "starting")
        self._steps += 1

    def evaluate(self, data_iter: Iterable) -> Totals:
        """See `base.Engine`; over the images of all workers, each of which has its own part of them."""
        self.gang.enter("testing")
        return self.combine(self.engine.evaluate(data_iter))

    def logits(self, data_iter: Iterable) -> np.ndarray:
        """See `base.Engine`."""
        return self.engine.logits(data_iter)

    def combine(self, totals: Totals) -> Totals:
        """See `base.Engine`.

        Raises:
            OutOfStepError: a worker has other weights.
        """
        if not isinstance(self._trainer, GangTrainer):  # dist_async: each worker has its own weights
            return totals
        self.gang.enter("testing")
        messages = self.gang.gather(_NUMBERS.pack(*totals) + self._trainer.digest())
        size = _NUMBERS.size
        digests = [message[size : size + 32] for message in messages]
        if odd := [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]:
            raise OutOfStepError(f"the weights of worker {', '.join(odd)} differ from those of worker 0")
        loss_sums, corrects, counts = zip(*(_NUMBERS.unpack(message[:size]) for message in messages), strict=True)
        return Totals(sum(loss_sums), int(sum(corrects)), sum(counts))
